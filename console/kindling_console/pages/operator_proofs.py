"""The proofs of the books: what is checked, what was found, and since when."""

from collections.abc import Iterator
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase

from kindling_billing.proofs import proof_list
from kindling_console.access import Visitor, page
from kindling_console.answers import done, show
from kindling_platform.accounts.decisions import proof_ask
from kindling_platform.common.streamed_csv import csv_response


@page("operator", methods=("GET", "POST"))
def proofs(request: HttpRequest, visitor: Visitor) -> HttpResponse:
    """The newest proof and those before it; a post has the workers make one."""
    if request.method == "POST":
        proof_ask(actor=visitor.actor)
        return done(request, request.path, "The books are being proved; look again in a moment.")
    runs = proof_list()
    context = {"last": runs[0] if runs else None, "runs": runs}
    return show(request, "console/operator_proofs.html", context)


@page("operator")
def proofs_csv(request: HttpRequest, visitor: Visitor) -> HttpResponseBase:
    """Every check of every proof that is kept."""
    return csv_response(request, name="kindling-proofs.csv", rows=_csv_rows())


def _csv_rows() -> Iterator[list[Any]]:
    yield ["run_at", "check", "findings", "first_finding"]
    for run in proof_list(limit=5000):
        first: dict[str, str] = {}
        for finding in run.findings:
            first.setdefault(finding["check"], finding["finding"])
        for name, count in run.checks.items():
            yield [run.run_at, name, count, first.get(name, "")]
