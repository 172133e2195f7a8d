"""Usage: a chart, sums and a breakdown over a span, beside those of the span before."""

from dataclasses import replace
from urllib.parse import urlencode

from django.http import HttpRequest, HttpResponse, HttpResponseBadRequest
from django.http.response import HttpResponseBase

from kindling_console.access import Visitor, page
from kindling_console.answers import show
from kindling_console.charts import Chart, bar_chart
from kindling_console.usage_lines import lines_of
from kindling_console.usage_steps import step_label, steps_of
from kindling_console.usage_view import (
    CUSTOM,
    FIGURES,
    FILTERS,
    HOURS_UP_TO,
    RANGES,
    UsageView,
    address_of,
    view_of,
)
from kindling_platform.accounts.selectors import member_list
from kindling_platform.adapters.selectors import adapter_ref_list
from kindling_platform.catalog.selectors import model_ref_list
from kindling_platform.common.errors import KindlingError
from kindling_platform.common.streamed_csv import csv_response
from kindling_platform.deployments.gpu_reports import (
    gpu_time_beside,
    gpu_time_list,
    gpu_time_rows,
    gpu_time_total,
)
from kindling_platform.deployments.usage_table import charged_rows
from kindling_platform.keys.selectors import key_list
from kindling_platform.usage.exports import file_name
from kindling_platform.usage.names import BASE, OUTCOMES
from kindling_platform.usage.questions import question_of
from kindling_platform.usage.reports import UsageSum, sums_add

BREAKDOWNS = {
    "model": "Model",
    "adapter": "Adapter",
    "key": "API key",
    "member": "Member",
    "status": "Outcome",
}
MOST_CHOICES = 200


@page("usage.read")
def usage(request: HttpRequest, visitor: Visitor) -> HttpResponse:
    """Chart, totals and a breakdown; everything that is chosen is in the URL."""
    asked = request.GET.dict()
    view = view_of(visitor.org, asked)
    question, before = view.question, view.question.before
    rows, groups = question.rows_and_groups(view.by)
    rows_before, groups_before = before.rows_and_groups(view.by) if view.compare else ([], [])
    totals, totals_before = sums_add(rows), sums_add(rows_before)
    gpu = gpu_time_list(replace(question, interval="", by="", only={}))
    # Machines have no key and no outcome: where some requests are chosen they are none of the sum.
    gpu_spent = 0 if question.only else gpu_time_total(gpu).cost_picousd
    gpu_before = gpu_time_beside(before) if view.compare else None
    lines = lines_of(visitor.org, view.by, groups, groups_before)
    context = {
        "view": view, "asked": asked, "ranges": RANGES, "figures": FIGURES.values(), "breakdowns": BREAKDOWNS,
        "custom": view.range == CUSTOM, "first": view.local(question.start), "behind": view.local(question.end),
        "spent": totals.cost_picousd + gpu_spent, "gpu_spent": gpu_spent,
        "spent_before": totals_before.cost_picousd + (gpu_before.cost_picousd if gpu_before else 0),
        "totals": totals, "before": totals_before if view.compare else None,
        "figure_total": view.figure.of(totals), "figure_before": view.figure.of(totals_before),
        "chart": _chart(view, rows, rows_before), "steps": steps_of(view, rows),
        "lines": [(line, address_of(view, asked, **{view.by: line.values}) if line.values else "") for line in lines],
        "choices": _choices(visitor, asked), "intervals": _intervals(view),
        "gpu": gpu, "gpu_total": gpu_time_total(gpu),
        "gpu_csv_query": urlencode({
            "from": question.start.isoformat(), "to": question.end.isoformat(), "tz": question.zone.key,
            "interval": question.interval,
        }),
        "requests_query": address_of(view, asked),
        "csv_query": address_of(view, asked, interval=question.interval, group_by=view.by),
    }  # fmt: skip
    return show(request, "console/usage.html", context, status=422 if view.error else 200)


@page("usage.read")
def usage_csv(request: HttpRequest, visitor: Visitor) -> HttpResponseBase:
    """The sums of a span by step and group, exact; what the API gives for the same address."""
    try:
        question = question_of(visitor.org, request.GET.dict())
    except KindlingError as refused:
        return HttpResponseBadRequest(refused.message, content_type="text/plain; charset=utf-8")
    name = file_name(visitor.org, "usage", question)
    return csv_response(request, name=name, rows=charged_rows(question))


@page("usage.read")
def gpu_time_csv(request: HttpRequest, visitor: Visitor) -> HttpResponseBase:
    """GPU time of a span by deployment and step, exact; what the API gives for the same address."""
    try:
        question = question_of(visitor.org, request.GET.dict())
    except KindlingError as refused:
        return HttpResponseBadRequest(refused.message, content_type="text/plain; charset=utf-8")
    return csv_response(
        request, name=file_name(visitor.org, "gpu-time", question), rows=gpu_time_rows(question)
    )


def _chart(view: UsageView, rows: list[UsageSum], before: list[UsageSum]) -> Chart:
    """The figure of every bucket, empty ones included, each beside the bucket that many earlier."""
    of = view.figure.of
    values = {row.at: of(row) for row in rows}
    earlier = {row.at: of(row) for row in before}
    starts = view.question.starts
    marks = [earlier.get(moment, 0) for moment in view.question.before.starts] if view.compare else []
    return bar_chart(
        [(step_label(view, moment), values.get(moment, 0)) for moment in starts],
        before=[*marks, *[0] * len(starts)][: len(starts)] if view.compare else (),
    )


def _intervals(view: UsageView) -> list[str]:
    """The steps that make a chart one can read."""
    length = view.question.end - view.question.start
    return [*(["hour"] if length <= HOURS_UP_TO else []), "day", *(["month"] if length > HOURS_UP_TO else [])]


def _choices(visitor: Visitor, asked: dict[str, str]) -> list[tuple[str, str, list[tuple[str, str]]]]:
    """What each filter can be set to; what it is set to is among it, whatever it is."""
    org = visitor.org
    found: dict[str, list[tuple[str, str]]] = {
        "model": [(ref, ref) for ref in model_ref_list(org=org)[:MOST_CHOICES]],
        "adapter": [
            (BASE, "base models alone"),
            *((ref, ref) for ref in adapter_ref_list(org=org)[:MOST_CHOICES]),
        ],
        "key": list(key_list(org=org).values_list("id", "name")[:MOST_CHOICES]),
        "member": [(row.user.email, row.user.email) for row in member_list(org=org)[:MOST_CHOICES]],
        "status": list(OUTCOMES.items()),
    }
    for name in FILTERS:
        chosen = asked.get(name, "")
        if chosen and chosen not in dict(found[name]):
            found[name].append((chosen, chosen if len(chosen) <= 40 else f"{chosen[:40]}…"))
    return [(name, BREAKDOWNS[name], found[name]) for name in FILTERS]
