"""What each model brought in and cost, beside what the same tokens cost elsewhere: whether to serve or to buy."""

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

from django.http import HttpRequest, HttpResponse, StreamingHttpResponse

from kindling_billing.costs import hosted_price_list, hosted_price_map, hour_cost_list, quote_of
from kindling_billing.margins import Margin, Quote
from kindling_billing.totals import month_after
from kindling_console.access import Visitor, page
from kindling_console.answers import done, show
from kindling_console.findings import Finding, even_point, finding_of
from kindling_console.forms.margins import CostForm, QuoteForm
from kindling_console.spans import month_start
from kindling_platform.catalog.selectors import model_list_all
from kindling_platform.common.clock import now
from kindling_platform.common.errors import KindlingError, not_found
from kindling_platform.common.streamed_csv import csv_response
from kindling_platform.deployments.costs import cost_enter, hosted_price_enter
from kindling_platform.deployments.margin_rows import margin_rows
from kindling_platform.deployments.margins import margin_days, margin_models

MONTH = re.compile(r"(20\d\d)-(0[1-9]|1[0-2])")


@dataclass(frozen=True, slots=True)
class Month:
    """A month that a page is about, with its neighbours as they stand in an address."""

    first: datetime
    end: datetime
    key: str
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class Row:
    """A model or a day with its sums, and what its tokens cost elsewhere per million."""

    model_id: str
    name: Any
    sums: Margin
    hosted_picousd: int | None
    finding: Finding


@page("operator", methods=("GET", "POST"))
def margins(request: HttpRequest, visitor: Visitor) -> HttpResponse:
    """Every model's month; a post enters what an hour of a replica costs."""
    month = _month(request)
    form = CostForm(request.POST or None)
    if request.method == "POST" and (answer := _cost_entered(request, visitor, form, "")):
        return answer
    models = {model.id: model.ref for model in model_list_all()}
    sums = margin_models(margin_days(start=month.first, end=month.end))
    quotes = {sku: quote_of(row) for sku, row in hosted_price_map(skus=models).items()}
    shown = {sku: sums.get(sku, Margin()) for sku in {*models, *sums}}
    rows = [_row(sku, models.get(sku, sku), one, quotes.get(sku)) for sku, one in shown.items()]
    context = {
        "month": month,
        "rows": sorted(rows, key=lambda row: (-row.sums.revenue_picousd, -row.sums.cost_picousd, row.name)),
        "total": sum((row.sums for row in rows), Margin()),
        "form": form,
        "costs": [(row, models.get(row.sku, row.sku)) for row in hour_cost_list()[:50]],
    }
    return show(request, "console/operator_margins.html", context, status=422 if form.is_bound else 200)


@page("operator")
def margins_csv(request: HttpRequest, visitor: Visitor) -> StreamingHttpResponse:
    """A month by model and day, in pico-dollars and microseconds."""
    month = _month(request)
    rows = margin_rows(start=month.first, end=month.end)
    return csv_response(request, name=f"margins-{month.key}.csv", rows=rows)


@page("operator", methods=("GET", "POST"))
def margin(request: HttpRequest, visitor: Visitor, model_id: str) -> HttpResponse:
    """One model's month by day; a post enters its cost of an hour, or what others ask for it."""
    ref = {model.id: model.ref for model in model_list_all()}.get(model_id)
    if ref is None:
        raise not_found("model")
    month = _month(request)
    sent = request.POST.get("do", "") if request.method == "POST" else ""
    cost_form = CostForm(request.POST if sent == "cost" else None)
    quote_form = QuoteForm(
        request.POST if sent == "quote" else None, initial={"quoted_on": now().date().isoformat()}
    )
    if sent == "cost" and (answer := _cost_entered(request, visitor, cost_form, model_id)):
        return answer
    if sent == "quote" and (answer := _quote_entered(request, visitor, quote_form, model_id)):
        return answer
    days = margin_days(start=month.first, end=month.end, model_id=model_id)
    quoted = hosted_price_list(sku=model_id)
    quote = quote_of(quoted[0]) if quoted else None
    total = sum(days.values(), Margin())
    context = {
        "model_id": model_id,
        "ref": ref,
        "month": month,
        "total": total,
        "finding": finding_of(total, quote),
        "even": even_point(total, quote),
        "hosted": total.hosted_per_million_picousd(quote) if quote else None,
        "quotes": quoted,
        "days": [_row(model_id, day, sums, quote) for (_, day), sums in sorted(days.items())],
        "cost_form": cost_form,
        "quote_form": quote_form,
        "costs": [(row, ref if row.sku else "") for row in hour_cost_list() if row.sku in ("", model_id)][
            :50
        ],
    }
    return show(
        request, "console/operator_margin.html", context, status=422 if request.method == "POST" else 200
    )


def _cost_entered(
    request: HttpRequest, visitor: Visitor, form: CostForm, model_id: str
) -> HttpResponse | None:
    if not form.is_valid():
        return None
    given = form.cleaned_data
    try:
        cost_enter(
            picousd_per_hour=given["cost"],
            note=given["note"],
            valid_from=given["valid_from"],
            model_id=model_id,
            actor=visitor.actor,
        )
    except KindlingError as error:
        form.add_error(error.param if error.param in form.fields else None, error.message)
        return None
    return done(request, request.get_full_path(), "The cost is entered.")


def _quote_entered(
    request: HttpRequest, visitor: Visitor, form: QuoteForm, model_id: str
) -> HttpResponse | None:
    if not form.is_valid():
        return None
    given = form.cleaned_data
    try:
        hosted_price_enter(
            model_id=model_id,
            quote=form.quote(),
            source=given["source"],
            quoted_on=given["quoted_on"],
            actor=visitor.actor,
        )
    except KindlingError as error:
        form.add_error(error.param if error.param in form.fields else None, error.message)
        return None
    return done(request, request.get_full_path(), "The hosted price is noted.")


def _row(model_id: str, name: Any, sums: Margin, quote: Quote | None) -> Row:
    hosted = sums.hosted_per_million_picousd(quote) if quote else None
    return Row(model_id, name, sums, hosted, finding_of(sums, quote))


def _month(request: HttpRequest) -> Month:
    """The month that the address names, else this one; none to come."""
    this = month_start().date()
    named = MONTH.fullmatch(request.GET.get("month", ""))
    first = min(date(int(named[1]), int(named[2]), 1), this) if named else this
    after = month_after(first)
    before = date(first.year - (first.month == 1), (first.month - 2) % 12 + 1, 1)
    return Month(
        _midnight(first), _midnight(after), f"{first:%Y-%m}", f"{before:%Y-%m}",
        f"{after:%Y-%m}" if after <= this else "",
    )  # fmt: skip


def _midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)
