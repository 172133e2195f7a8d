"""Usage: a chart and sums over a span, and the requests behind them."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from typing import Any

from django.http import HttpRequest, HttpResponse, StreamingHttpResponse

from kindling_billing.money import pico_to_usd_text
from kindling_billing.selectors import price_map
from kindling_console.access import Visitor, page
from kindling_console.answers import show
from kindling_console.charts import bar_chart
from kindling_console.spans import SPANS, Span, span_from
from kindling_platform.adapters.selectors import adapter_list
from kindling_platform.catalog.selectors import model_list
from kindling_platform.common.errors import KindlingError
from kindling_platform.common.pagination import page_get
from kindling_platform.keys.selectors import key_name_map
from kindling_platform.usage.selectors import (
    UsageSum,
    usage_by,
    usage_event_get,
    usage_event_list,
    usage_totals,
)

BREAKDOWNS = (("model", "Model"), ("adapter", "Adapter"), ("key", "API key"))
REQUEST_FILTERS = ("model_id", "adapter_id", "key_id", "finish")
CSV_COLUMNS = (
    "request_id", "finished_at", "model_name", "adapter_id", "key_id", "finish", "billable",
    "prompt_tokens", "cached_tokens", "completion_tokens",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Line:
    """One row of the breakdown: a name, where it leads, its sums."""

    name: str
    sums: UsageSum
    filter: str


@page("usage.read")
def usage(request: HttpRequest, visitor: Visitor) -> HttpResponse:
    """Chart, totals and a breakdown; everything that is chosen is in the URL."""
    span = span_from(request.GET)
    by = request.GET.get("by") if request.GET.get("by") in dict(BREAKDOWNS) else "model"
    start, end = span.bounds()
    by_step = {row.group: row for row in usage_by(org=visitor.org, group=span.step, start=start, end=end)}
    chart = bar_chart(
        [
            (_label(moment, span), by_step[moment].cost_picousd if moment in by_step else 0)
            for moment in span.steps()
        ]
    )
    context = {
        "span": span, "spans": SPANS, "by": by, "breakdowns": BREAKDOWNS, "chart": chart,
        "totals": usage_totals(org=visitor.org, start=start, end=end),
        "steps": [by_step[moment] for moment in span.steps() if moment in by_step],
        "lines": _lines(visitor, str(by), usage_by(org=visitor.org, group=str(by), start=start, end=end)),
    }  # fmt: skip
    return show(request, "console/usage.html", context)


@page("usage.read")
def usage_csv(request: HttpRequest, visitor: Visitor) -> StreamingHttpResponse:
    """Every request of the span, written while it is read."""
    span = span_from(request.GET)
    response = StreamingHttpResponse(_csv(visitor, span), content_type="text/csv; charset=utf-8")
    response["Content-Disposition"] = (
        f'attachment; filename="kindling-usage-{visitor.org.slug}-{span.key}.csv"'
    )
    response["X-Accel-Buffering"] = "no"
    return response


@page("usage.read")
def requests(request: HttpRequest, visitor: Visitor) -> HttpResponse:
    """Single requests, newest first: who, what, how much; never what was said."""
    rows = usage_event_list(org=visitor.org)
    filters = {name: request.GET[name] for name in REQUEST_FILTERS if request.GET.get(name)}
    order, cursor = ("finished_at", "request_id"), request.GET.get("cursor", "")
    try:
        found = page_get(rows.filter(**filters), order=order, cursor=cursor)
    except KindlingError:
        found = page_get(rows.filter(**filters), order=order)
    context = {
        "events": found.rows,
        "next": found.next_cursor,
        "filters": filters,
        "finish": filters.get("finish", ""),
    }
    return show(request, "console/requests.html", context)


@page("usage.read")
def request_page(request: HttpRequest, visitor: Visitor, request_id: str) -> HttpResponse:
    """One request: its tokens, its times, and how its cost comes about."""
    event = usage_event_get(org=visitor.org, request_id=request_id)
    price = price_map(price_ids=[event.price_version_id]).get(event.price_version_id)
    context = {"event": event, "price": price, "parts": _cost_parts(event, price)}
    return show(request, "console/request.html", context)


def _cost_parts(event: Any, price: Any) -> list[tuple[str, int, int, int]]:
    if price is None or not event.billable:
        return []
    fresh = event.prompt_tokens - event.cached_tokens
    counted = [
        ("Prompt", fresh, price.input_picousd),
        ("Prompt, cached", event.cached_tokens, price.cached_input_picousd),
        ("Answer", event.completion_tokens, price.output_picousd),
    ]
    return [(label, tokens, each, tokens * each) for label, tokens, each in counted]


def _label(moment: Any, span: Span) -> str:
    return f"{moment:%H}:00" if span.step == "hour" else f"{moment:%-d %b}"


def _lines(visitor: Visitor, by: str, sums: list[UsageSum]) -> list[Line]:
    if by == "model":
        names = {model.id: model.ref for model in model_list(org=visitor.org)}
        rest = "a model that is gone"
    elif by == "adapter":
        names = {adapter.id: adapter.ref for adapter in adapter_list(org=visitor.org)[:500]} | {
            "": "base model"
        }
        rest = "deleted adapters"
    else:
        names = key_name_map(org=visitor.org)
        rest = "a key that is gone"
    # One line per name: the playground makes a key every few minutes, and all are called the same.
    named: dict[str, list[UsageSum]] = {}
    for row in sums:
        named.setdefault(names.get(row.group, rest), []).append(row)
    lines = [
        Line(name, _sum(rows), f"{by}_id={rows[0].group}" if len(rows) == 1 and rows[0].group else "")
        for name, rows in named.items()
    ]
    return sorted(lines, key=lambda line: line.sums.cost_picousd, reverse=True)


def _sum(rows: list[UsageSum]) -> UsageSum:
    total = rows[0]
    for row in rows[1:]:
        total = replace(
            total,
            requests=total.requests + row.requests,
            failed=total.failed + row.failed,
            prompt_tokens=total.prompt_tokens + row.prompt_tokens,
            cached_tokens=total.cached_tokens + row.cached_tokens,
            completion_tokens=total.completion_tokens + row.completion_tokens,
            cost_picousd=total.cost_picousd + row.cost_picousd,
        )
    return total


async def _csv(visitor: Visitor, span: Span) -> AsyncIterator[str]:
    start, end = span.bounds()
    yield ",".join((*CSV_COLUMNS, "cost_picousd", "cost_usd")) + "\n"
    rows = usage_event_list(org=visitor.org).filter(finished_at__gte=start, finished_at__lt=end)
    async for event in rows.aiterator(chunk_size=500):
        values = [_cell(getattr(event, column)) for column in CSV_COLUMNS]
        cost = int(event.cost_picousd)
        yield ",".join((*values, str(cost), pico_to_usd_text(cost, 12).replace(",", ""))) + "\n"


def _cell(value: Any) -> str:
    text = value.isoformat() if hasattr(value, "isoformat") else str(value)
    # A leading sign would make a spreadsheet read a name as a formula.
    text = f"'{text}" if text[:1] in "=+-@" else text
    return f'"{text.replace(chr(34), chr(34) * 2)}"' if any(c in text for c in ',"\n') else text
