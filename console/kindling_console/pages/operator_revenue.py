"""Revenue and usage of the installation over time: what was used, what was paid, what it cost to take."""

from datetime import datetime, timedelta

from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase

from kindling_billing.takings import Takings
from kindling_console.access import Visitor, page
from kindling_console.answers import show
from kindling_console.charts import bar_chart
from kindling_console.spans import DAY, SPANS, Span, month_start
from kindling_platform.accounts.selectors import organisation_map
from kindling_platform.catalog.selectors import model_list_all
from kindling_platform.common.clock import now
from kindling_platform.common.streamed_csv import csv_response
from kindling_platform.usage.overview import FIGURES, Figures, usage_shares
from kindling_platform.usage.revenue import RevenueStep, revenue_rows, revenue_steps

BREAKDOWNS = (("organisation", "Organisation"), ("model", "Model"))
YEAR = Span("12m", "12 months", 365 * DAY, "month")
RANGES = (*SPANS, YEAR)
SHOWN = 50


@page("operator")
def revenue(request: HttpRequest, visitor: Visitor) -> HttpResponse:
    """Totals, a chart, the steps behind it, and who or what it comes from; all that is chosen is in the URL."""
    span = _span(request)
    by = request.GET.get("by") if request.GET.get("by") in dict(BREAKDOWNS) else "organisation"
    rows = _rows(span)
    used, taken = _totals(rows)
    start, end = _bounds(span)
    shares = usage_shares(start=start, end=end, by=str(by))
    context = {
        "span": span, "ranges": RANGES, "by": by, "breakdowns": BREAKDOWNS, "used": used, "taken": taken,
        "chart": bar_chart([(_label(row.moment, span), max(row.usage.cost_picousd, 0)) for row in rows]),
        "rows": [row for row in reversed(rows) if row.usage.requests or row.takings != Takings()],
        "shares": _named(str(by), shares[:SHOWN]), "rest": len(shares[SHOWN:]),
    }  # fmt: skip
    return show(request, "console/operator_revenue.html", context)


@page("operator")
def revenue_csv(request: HttpRequest, visitor: Visitor) -> HttpResponseBase:
    """Every step of the span with all its figures, in whole pico-dollars."""
    span = _span(request)
    rows = revenue_rows(step=span.step, steps=_rows(span))
    return csv_response(request, name=f"kindling-revenue-{span.key}.csv", rows=rows)


def _rows(span: Span) -> list[RevenueStep]:
    """Every step of a span, those without anything included, oldest first."""
    start, end = _bounds(span)
    return revenue_steps(start=start, end=end, step=span.step, moments=_steps(span))


def _span(request: HttpRequest) -> Span:
    return next((span for span in RANGES if span.key == request.GET.get("range")), RANGES[2])


def _bounds(span: Span) -> tuple[datetime, datetime]:
    return (_months()[0], now()) if span is YEAR else span.bounds()


def _steps(span: Span) -> list[datetime]:
    return _months() if span is YEAR else span.steps()


def _months() -> list[datetime]:
    months = [month_start()]
    while len(months) < 12:
        months.insert(0, (months[0] - timedelta(days=1)).replace(day=1))
    return months


def _totals(rows: list[RevenueStep]) -> tuple[Figures, Takings]:
    taken = Takings()
    for row in rows:
        taken.add(row.takings)
    sums = (sum(getattr(row.usage, name) for row in rows) for name in FIGURES)
    return Figures(None, *sums), taken


def _named(by: str, shares: list[Figures]) -> list[tuple[str, str, Figures]]:
    """Name, id to link to, sums."""
    if by == "model":
        refs = {model.id: model.ref for model in model_list_all()}
        return [(refs.get(row.group, "a model that is gone"), "", row) for row in shares]
    orgs = organisation_map(organisation_ids=[row.group for row in shares])
    return [
        (orgs[row.group].name, row.group, row) if row.group in orgs else (str(row.group), "", row)
        for row in shares
    ]


def _label(moment: datetime, span: Span) -> str:
    formats = {"hour": "%H:00", "day": "%-d %b", "month": "%b %Y"}
    return f"{moment:{formats[span.step]}}"
