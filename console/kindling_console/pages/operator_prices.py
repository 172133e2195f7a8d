"""The price book: versions in time order, a new one with its effect on what was used, the whole book as a table."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.urls import reverse

from kindling_billing.book import BOOK, Version
from kindling_billing.plans import plan_list
from kindling_billing.selectors import price_list, price_of, version_list
from kindling_billing.timeline import IN_FORCE, Entry, timeline_of
from kindling_console.access import Visitor, page
from kindling_console.answers import done, refused, show
from kindling_console.forms.prices import PriceDraftForm, PriceTableForm, price_initial
from kindling_console.sure import sure_recently
from kindling_platform.catalog.price_sheet import Sheet, sheet_read, sheet_rows
from kindling_platform.catalog.prices import drafts_check, price_withdraw, prices_publish
from kindling_platform.catalog.selectors import model_list_all
from kindling_platform.common.clock import now
from kindling_platform.common.errors import KindlingError
from kindling_platform.common.streamed_csv import csv_response
from kindling_platform.deployments.price_effects import SpanEffect, price_effects

PREVIEW = "preview"


@dataclass(frozen=True, slots=True)
class Line:
    """The versions of one model for one plan, or for everybody."""

    plan_id: str
    plan: str
    entries: list[Entry]

    @property
    def current(self) -> Any:
        """The version in force, None where there is none yet."""
        return next((entry.version for entry in self.entries if entry.state == IN_FORCE), None)


@page("operator", methods=("GET", "POST"))
def prices(request: HttpRequest, visitor: Visitor) -> HttpResponse:
    """Every price, and a form for a new one; a post previews or publishes."""
    models = list(model_list_all())
    plans = {plan.id: plan.name for plan in plan_list()}
    lines = _lines([model.id for model in models], plans)
    chosen = _chosen(request, lines, models)
    form = PriceDraftForm(
        request.POST or None,
        models=[(model.id, model.ref) for model in models],
        plans=list(plans.items()),
        initial={"model": chosen[0], "plan": chosen[1], **price_initial(_price(lines, *chosen))},
    )
    effects: list[SpanEffect] = []
    if request.method == "POST" and form.is_valid():
        price = _price(lines, form.cleaned_data["model"], form.cleaned_data["plan"])
        drafts = [form.draft(at=now(), gpu_ms=price.gpu_ms if price else 0)]
        corrects = form.cleaned_data["corrects"]
        try:
            if request.POST.get("do") == PREVIEW:
                drafts_check(drafts, corrects=corrects)
                effects = price_effects(drafts, models={model.id: model.ref for model in models})
            else:
                sure_recently(request)
                prices_publish(drafts=drafts, actor=visitor.actor, corrects=corrects)
                return done(request, reverse("console:operator-prices"), "The price is published.")
        except KindlingError as error:
            form.add_error(error.param if error.param in form.fields else None, error.message)
    context = {
        "models": [(model, lines.get(model.id, [])) for model in models],
        "form": form,
        "effects": effects,
    }
    return show(request, "console/operator_prices.html", context, status=_status(request, form, effects))


@page("operator", methods=("POST",))
def withdraw(request: HttpRequest, visitor: Visitor, price_id: str) -> HttpResponse:
    """Take back a price that has not begun."""
    target = reverse("console:operator-prices")
    sure_recently(request)
    try:
        price_withdraw(price_id=price_id, actor=visitor.actor)
    except KindlingError as error:
        return refused(request, target, error)
    return done(request, target, "The price is withdrawn: what holds until then goes on.")


@page("operator", methods=("GET", "POST"))
def table(request: HttpRequest, visitor: Visitor) -> HttpResponse:
    """The book as a table: every row is checked, then all are published or none."""
    form = PriceTableForm(request.POST or None, request.FILES or None)
    sheet, effects, text = Sheet(), [], ""
    if request.method == "POST" and form.is_valid():
        models = {model.id: model.ref for model in model_list_all()}
        try:
            text = form.text()
            sheet = _read(text, models, now())
            if sheet.drafts and not sheet.errors:
                corrects = form.cleaned_data["corrects"]
                if request.POST.get("do") != PREVIEW:
                    _kept_as_text(request, text)
                    sure_recently(request)
                    prices_publish(drafts=sheet.drafts, actor=visitor.actor, corrects=corrects)
                    said = f"{len(sheet.drafts)} prices are published."
                    return done(request, reverse("console:operator-prices"), said)
                drafts_check(sheet.drafts, corrects=corrects)
                effects = price_effects(sheet.drafts, models=models)
        except KindlingError as error:
            form.add_error(None, error.message)
        except ValueError as error:
            form.add_error("file", str(error))
    context = {"form": form, "sheet": sheet, "effects": effects, "text": text}
    return show(request, "console/operator_price_table.html", context, status=_status(request, form, effects))


@page("operator")
def book(request: HttpRequest, visitor: Visitor) -> StreamingHttpResponse:
    """Every version as CSV; what is read from it again is known and published once."""
    models = {model.id: model.ref for model in model_list_all()}
    plans = {plan.id: plan.name for plan in plan_list()}
    rows = sheet_rows(version_list(), models=models, plans={BOOK: "", **plans})
    return csv_response(request, name="price-book.csv", rows=rows)


def _kept_as_text(request: HttpRequest, text: str) -> None:
    """Of what waits for a confirmation files are not kept, so that a table goes on as the text that it is."""
    sent = request.POST.copy()
    sent["table"] = text
    request.POST = sent  # type: ignore[assignment]


def _lines(skus: list[str], plans: dict[str, str]) -> dict[str, list[Line]]:
    """The lines of each model, everybody's first."""
    held: dict[tuple[str, str], list[Any]] = {}
    for version in price_list().filter(sku__in=skus):
        held.setdefault((version.sku, version.plan_id), []).append(version)
    lines: dict[str, list[Line]] = {}
    moment = now()
    for (sku, plan_id), versions in sorted(held.items()):
        entries = timeline_of(versions, now=moment)
        lines.setdefault(sku, []).append(Line(plan_id, plans.get(plan_id, plan_id), entries))
    return lines


def _chosen(request: HttpRequest, lines: dict[str, list[Line]], models: list[Any]) -> tuple[str, str]:
    known = {model.id for model in models}
    sku = request.GET.get("model", "")
    sku = sku if sku in known else models[0].id if models else ""
    return sku, request.GET.get("plan", "")


def _price(lines: dict[str, list[Line]], sku: str, plan_id: str) -> Any:
    """The price in force for a model and plan, else everybody's."""
    held = {line.plan_id: line.current for line in lines.get(sku, [])}
    version = held.get(plan_id) or held.get(BOOK)
    return price_of(version) if version else None


def _read(text: str, models: dict[str, str], moment: datetime) -> Sheet:
    published: list[Version] = version_list(skus=models)
    plans = {plan.name: plan.id for plan in plan_list()}
    by_ref = {ref: sku for sku, ref in models.items()}
    return sheet_read(text, models=by_ref, plans=plans, published=published, at=moment)


def _status(request: HttpRequest, form: Any, effects: list[SpanEffect]) -> int:
    return 422 if request.method == "POST" and (form.errors or not effects) else 200
