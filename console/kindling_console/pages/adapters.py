"""Adapters: list, one adapter's report, delete."""

from typing import Any

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.urls import reverse

from kindling_console.access import Visitor, page
from kindling_console.answers import done, show
from kindling_console.quickstart import Snippet, snippets
from kindling_platform.adapters.selectors import adapter_get, adapter_list
from kindling_platform.adapters.services import adapter_delete
from kindling_platform.common.error_index.entries import error_url
from kindling_platform.usage.selectors import adapter_last_used_map

SHOWN = 200
MOVING = {"uploading", "validating"}
LEVELS = {"fail": 0, "warn": 1, "pass": 2}
EXAMPLE = "I was charged twice for my order"


@page("adapters.read")
def adapters(request: HttpRequest, visitor: Visitor) -> HttpResponse:
    """The list; its rows follow their states by themselves."""
    rows = list(adapter_list(org=visitor.org)[:SHOWN])
    context = {
        "adapters": rows,
        "last_used": adapter_last_used_map(org=visitor.org),
        "moving": any(row.state in MOVING for row in rows),
        "may_write": visitor.may("adapters.write"),
    }
    return show(request, "console/adapters.html", context, part="console/parts/adapter_rows.html")


@page("adapters.read")
def adapter_page(request: HttpRequest, visitor: Visitor, adapter_id: str) -> HttpResponse:
    """State, report and quickstart."""
    adapter = adapter_get(org=visitor.org, adapter_id=adapter_id)
    context = report_context(adapter) | {
        "snippets": _snippets(adapter),
        "may_write": visitor.may("adapters.write"),
    }
    return show(request, "console/adapter.html", context)


@page("adapters.read")
def adapter_report(request: HttpRequest, visitor: Visitor, adapter_id: str) -> HttpResponse:
    """The part that changes while an adapter arrives and is checked."""
    adapter = adapter_get(org=visitor.org, adapter_id=adapter_id)
    context = report_context(adapter) | {
        "snippets": _snippets(adapter),
    }
    return show(request, "console/parts/adapter_report.html", context)


@page("adapters.write", methods=("GET", "POST"))
def adapter_delete_page(request: HttpRequest, visitor: Visitor, adapter_id: str) -> HttpResponse:
    """Delete after the name was typed."""
    adapter = adapter_get(org=visitor.org, adapter_id=adapter_id)
    typed = request.POST.get("name", "").strip()
    if request.method == "POST" and typed == adapter.name:
        adapter_delete(org=visitor.org, adapter_id=adapter.id, actor=visitor.actor)
        return done(request, reverse("console:adapters"), f"{adapter.ref} is deleted.")
    context = {
        "adapter": adapter,
        "typed": typed,
        "is_wrong": request.method == "POST",
        "last_used": adapter_last_used_map(org=visitor.org).get(adapter.id),
    }
    return show(request, "console/adapter_delete.html", context, status=422 if context["is_wrong"] else 200)


def report_context(adapter: Any) -> dict[str, Any]:
    """An adapter with its findings, worst first, and the counts of each level."""
    unique = {(found["check"], found["message"]): found for found in adapter.report.get("findings", [])}
    findings = sorted(unique.values(), key=lambda finding: LEVELS.get(finding["level"], 0))
    levels = [finding["level"] for finding in findings]
    files = list(adapter.files.all())
    return {
        "adapter": adapter,
        "findings": findings,
        "fails": levels.count("fail"),
        "warns": levels.count("warn"),
        "passes": levels.count("pass"),
        "moving": adapter.state in MOVING,
        "error_url": error_url(settings.KINDLING_ENV.public_url, adapter.error_code),
        "files": files,
        "arrived_bytes": sum(file.received_bytes for file in files),
        "parameters": adapter.report.get("parameters"),
        "dtype": adapter.report.get("dtype"),
        "target_modules": adapter.report.get("target_modules", []),
    }


def _snippets(adapter: Any) -> list[Snippet]:
    if adapter.state != "ready":
        return []
    return snippets(adapter.ref, surface=adapter.base.surface, prompt=EXAMPLE)
