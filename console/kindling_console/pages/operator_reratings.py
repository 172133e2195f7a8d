"""Rating anew: see what it would change, start it, and watch it go on."""

from collections.abc import Iterator
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.urls import reverse

from kindling_console.access import Visitor, page
from kindling_console.answers import done, show
from kindling_console.forms.rerating import RateAnewForm
from kindling_console.sure import sure_recently
from kindling_platform.accounts.selectors import organisation_list, organisation_map
from kindling_platform.catalog.selectors import model_list_all
from kindling_platform.common.errors import KindlingError
from kindling_platform.common.streamed_csv import csv_response
from kindling_platform.usage.rerating import rerating_start
from kindling_platform.usage.rerating_effect import OwnersEffect, rerating_list, rerating_preview

SHOWN = 100
COLUMNS = (
    "id", "sku", "owner_id", "start", "end", "reason", "created_by", "created_at", "seen", "changed", "gaps",
    "difference_picousd", "done_at",
)  # fmt: skip


@page("operator", methods=("GET", "POST"))
def reratings(request: HttpRequest, visitor: Visitor) -> HttpResponse:
    """The runs and a form; with a span in the URL what a run over it would change, and a post starts it."""
    models = {model.id: model.ref for model in model_list_all()}
    given = request.POST if request.method == "POST" else request.GET
    form = RateAnewForm(given if given.get("model") else None, models=list(models.items()))
    effects: list[OwnersEffect] | None = None
    if form.is_bound and form.is_valid():
        try:
            if request.method == "POST":
                sure_recently(request)
                _start(form, visitor)
                text = "The run is started; it goes on in small steps."
                return done(request, reverse("console:operator-reratings"), text)
            effects = rerating_preview(**_span(form))
        except KindlingError as error:
            form.add_error(error.param if error.param in form.fields else None, error.message)
    runs = rerating_list()
    owners = [run.owner_id for run in runs] + [effect.owner_id for effect in (effects or [])[:SHOWN]]
    context = {
        "form": form,
        "models": models,
        "runs": runs,
        "is_running": any(run.done_at is None for run in runs),
        "effects": None if effects is None else effects[:SHOWN],
        "totals": _totals(effects or []),
        "organisations": organisation_map(organisation_ids=owners),
    }
    status = 422 if form.is_bound and form.errors else 200
    return show(
        request,
        "console/operator_reratings.html",
        context,
        part="console/parts/rerating_runs.html",
        status=status,
    )


@page("operator")
def reratings_csv(request: HttpRequest, visitor: Visitor) -> HttpResponseBase:
    """Every run that is kept."""
    return csv_response(request, name="kindling-reratings.csv", rows=_csv_rows())


def _span(form: RateAnewForm) -> dict[str, Any]:
    """The span that a form asks for.

    Raises:
        KindlingError: `not_found` for an organisation that is not there.
    """
    slug, owner_id = form.cleaned_data["organisation"].strip(), ""
    if slug:
        org = organisation_list().filter(slug=slug).first()
        if org is None:
            raise KindlingError("not_found", f"There is no organisation {slug!r}.", param="organisation")
        owner_id = org.id
    return {
        "sku": form.cleaned_data["model"],
        "start": form.cleaned_data["from"],
        "end": form.cleaned_data["to"],
        "owner_id": owner_id,
    }


def _start(form: RateAnewForm, visitor: Visitor) -> None:
    rerating_start(**_span(form), reason=form.cleaned_data["reason"], actor=visitor.actor)


def _totals(effects: list[OwnersEffect]) -> dict[str, int]:
    names = ("requests", "changed", "gaps", "before_picousd", "after_picousd", "difference_picousd")
    return {name: sum(getattr(effect, name) for effect in effects) for name in names}


def _csv_rows() -> Iterator[list[Any]]:
    yield list(COLUMNS)
    for run in rerating_list(limit=5000):
        yield [int(value) if name == "difference_picousd" else value for name, value in _values(run)]


def _values(run: Any) -> list[tuple[str, Any]]:
    return [(name, getattr(run, name)) for name in COLUMNS]
