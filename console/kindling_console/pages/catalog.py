"""The catalog: models to call, and one model's page."""

from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import Any

from django.http import HttpRequest, HttpResponse

from kindling_console.access import Visitor, page
from kindling_console.answers import show
from kindling_console.prices import current_prices
from kindling_console.quickstart import snippets
from kindling_platform.adapters.selectors import adapter_list
from kindling_platform.catalog.selectors import model_get, model_list
from kindling_platform.deployments.selectors import deployment_list_visible
from kindling_platform.usage.selectors import usage_event_list

CONTEXTS = ((0, "Any context"), (4096, "4k and more"), (32768, "32k and more"), (131072, "128k and more"))
SAMPLE = 100


@dataclass(frozen=True, slots=True)
class Card:
    """A model with what a visitor chooses by."""

    model: Any
    price: Any
    is_live: bool


@dataclass(frozen=True, slots=True)
class Speed:
    """Medians over the visitor's own latest requests; times in milliseconds."""

    samples: int
    first_token_ms: int
    tokens_per_s: float


@page("models.read")
def catalog(request: HttpRequest, visitor: Visitor) -> HttpResponse:
    """Cards that match the filters in the URL."""
    query = request.GET.get("q", "").strip()[:80]
    lora, live = "lora" in request.GET, "live" in request.GET
    context_min = _whole(request.GET.get("context", "0"))
    everything = list(model_list(org=visitor.org))
    prices = current_prices((model.id for model in everything), visitor)
    live_ids = {d.model_id for d in deployment_list_visible(org=visitor.org) if d.state == "live"}
    cards = [Card(model, prices.get(model.id), model.id in live_ids) for model in everything]
    filters: dict[str, tuple[bool, Callable[[Card], bool]]] = {
        f"the search for “{query}”": (bool(query), lambda card: _matches(card.model, query)),
        "“LoRA-ready”": (lora, lambda card: card.model.lora_ready),
        "“Live now”": (live, lambda card: card.is_live),
        "the context length": (context_min > 0, lambda card: card.model.context_length >= context_min),
    }
    active = {name: test for name, (is_on, test) in filters.items() if is_on}
    shown = [card for card in cards if all(test(card) for test in active.values())]
    # An empty result says which single filter is to blame.
    culprits = [
        name
        for name in active
        if any(all(test(card) for other, test in active.items() if other != name) for card in cards)
    ]
    context = {
        "cards": shown, "total": len(cards), "query": query, "lora": lora, "live": live,
        "context_min": context_min, "contexts": CONTEXTS, "culprits": [] if shown else culprits,
    }  # fmt: skip
    return show(request, "console/catalog.html", context, part="console/parts/catalog_cards.html")


@page("models.read")
def model_page(request: HttpRequest, visitor: Visitor, org_slug: str, name: str) -> HttpResponse:
    """Everything about one model."""
    model = model_get(org=visitor.org, ref=f"{org_slug}/{name}")
    adapters = []
    if visitor.may("adapters.read"):
        adapters = [a for a in adapter_list(org=visitor.org)[:200] if a.base_id == model.id]
    deployments = [d for d in deployment_list_visible(org=visitor.org) if d.model_id == model.id]
    context = {
        "model": model,
        "price": current_prices([model.id], visitor).get(model.id),
        "adapters": adapters,
        "deployments": deployments,
        "is_live": any(d.state == "live" for d in deployments),
        "snippets": snippets(model.ref, surface=model.surface),
        "speed": _speed(visitor, model.id) if visitor.may("usage.read") else None,
    }
    return show(request, "console/model.html", context)


def _speed(visitor: Visitor, model_id: str) -> Speed | None:
    timed = [
        event
        for event in usage_event_list(org=visitor.org)[:SAMPLE]
        if event.model_id == model_id and event.first_token_at and event.completion_tokens > 1
    ]
    if not timed:
        return None
    firsts = [(event.first_token_at - event.started_at).total_seconds() * 1000 for event in timed]
    rates = [
        (event.completion_tokens - 1) / max((event.finished_at - event.first_token_at).total_seconds(), 0.001)
        for event in timed
    ]
    return Speed(len(timed), round(median(firsts)), round(median(rates), 1))


def _matches(model: Any, query: str) -> bool:
    return query.lower() in f"{model.ref} {model.display_name} {model.description}".lower()


def _whole(text: str) -> int:
    return int(text) if text.isdecimal() and len(text) < 9 else 0
