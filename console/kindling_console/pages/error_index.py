"""What every error code means and what to do about it, for whoever reads a `doc_url`; nobody has to sign in."""

from functools import cache
from http import HTTPStatus
from itertools import groupby

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from kindling_platform.common.error_index.entries import ErrorEntry, error_entries


@require_safe
def error_index(request: HttpRequest) -> HttpResponse:
    """All of them on one page, so that the browser's own search finds each; by the status that they usually have."""
    return render(request, "console/error_index.html", {"groups": _groups()})


@cache
def _groups() -> list[tuple[HTTPStatus, list[ErrorEntry]]]:
    def status_of(entry: ErrorEntry) -> int:
        return entry.statuses[0]

    entries = sorted(error_entries().values(), key=status_of)
    return [(HTTPStatus(status), list(same)) for status, same in groupby(entries, key=status_of)]
