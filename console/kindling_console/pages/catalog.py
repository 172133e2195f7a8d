"""The catalog: models to call, and one model's page."""

from dataclasses import dataclass
from typing import Any

from django.http import HttpRequest, HttpResponse

from kindling_billing.gpu_hours import HOUR_MS
from kindling_console.access import Visitor, page
from kindling_console.answers import is_fragment, show
from kindling_console.catalog_view import FILTER_WORDS, asked_of, choices_of, stand, ways_out
from kindling_console.pages.deploying import allowance_of, new_url
from kindling_console.quickstart import snippets
from kindling_platform.adapters.selectors import adapter_list
from kindling_platform.catalog.offers import TASKS, Offer
from kindling_platform.catalog.speeds import Speeds
from kindling_platform.catalog.wishes import wish_of
from kindling_platform.deployments.offers import offer_get, offer_list, serving_list
from kindling_platform.deployments.speeds import ORGANISATIONS, SAMPLES, TAIL_SAMPLES

ADAPTERS = 50


@dataclass(frozen=True, slots=True)
class Card:
    """An offer and the speed to compare it by, as far as the visitor may see it."""

    offer: Offer
    speed: Any


@page("models.read")
def catalog(request: HttpRequest, visitor: Visitor) -> HttpResponse:
    """Cards that match the filters in the URL; those who use htmx get the cards alone, and their address."""
    wish, errors = wish_of(request.GET.dict())
    offers = offer_list(org=visitor.org)
    shown = wish.choose(offers)
    choices = choices_of(wish, offers)
    context = {
        "cards": [Card(offer, _visible(visitor, offer.speeds).shown) for offer in shown],
        "total": len(offers),
        "is_filtered": bool(wish.filters(offers)),
        "ways_out": ways_out(wish, offers) if not shown else [],
        "wrong": [(FILTER_WORDS[error.param or "q"], error.message) for error in errors],
        "asked": asked_of(request, wish, [str(error.param) for error in errors], choices),
        "choices": choices,
    }
    response = show(request, "console/catalog.html", context, part="console/parts/catalog_cards.html")
    return stand(request, response, wish)


@page("models.read")
def model_page(request: HttpRequest, visitor: Visitor, org_slug: str, name: str) -> HttpResponse:
    """Everything about one model; its speeds are asked for again by themselves."""
    offer = offer_get(org=visitor.org, ref=f"{org_slug}/{name}")
    model = offer.model
    context: dict[str, Any] = {
        "model": model,
        "speeds": _visible(visitor, offer.speeds),
        "enough": {"own": SAMPLES, "everybody": TAIL_SAMPLES, "organisations": ORGANISATIONS},
    }
    if is_fragment(request):
        return show(request, "console/model.html", context, part="console/parts/model_speed.html")
    if visitor.may("adapters.read"):
        adapters = list(adapter_list(org=visitor.org).filter(base_id=model.id)[: ADAPTERS + 1])
        context |= {"adapters": adapters[:ADAPTERS], "more_adapters": len(adapters) > ADAPTERS}
    if visitor.may("deployments.read"):
        context["deployments"] = serving_list(org=visitor.org, model=model)
    context |= {
        "price": offer.price,
        "is_warm": offer.is_warm,
        "task_words": [TASKS[task].lower() for task in offer.tasks],
        "deploy_url": _deploy_url(visitor, model),
        "hour_ms_picousd": offer.hour_price_picousd // HOUR_MS,
        "snippets": snippets(model.ref, surface=model.surface),
    }
    return show(request, "console/model.html", context)


def _deploy_url(visitor: Visitor, model: Any) -> str:
    """Where the visitor deploys a model; "" for those who may not."""
    if not visitor.is_operator and not model.deployable:
        return ""
    return new_url(visitor, allowance_of(visitor))


def _visible(visitor: Visitor, speeds: Speeds) -> Speeds:
    """Without what the visitor's own organisation used, where their role does not see usage."""
    return speeds if visitor.may("usage.read") else Speeds(everybody=speeds.everybody)
