"""What an organisation can try in the playground, and how each of it is talked to."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from django.urls import reverse

from kindling_console.access import Visitor
from kindling_console.prices import current_prices
from kindling_platform.adapters.selectors import adapter_list
from kindling_platform.deployments.selectors import model_list_running

CHAT, RAW = "chat", "raw"
MOST_ADAPTERS = 200
# Beside the first, so three in all.
MOST_COMPARED = 2


@dataclass(frozen=True, slots=True)
class Choices:
    """Models and adapters that make text, and those that make vectors instead with the page of each."""

    texts: list[dict[str, Any]]
    vectors: dict[str, str]

    @property
    def chats(self) -> list[dict[str, Any]]:
        """Those that take a conversation; the others have no chat template."""
        return [choice for choice in self.texts if choice["surface"] == "chat"]

    def known(self, ref: str, *, mode: str = RAW) -> str:
        """The reference, or nothing if it is none of those that the mode can ask."""
        return ref if any(choice["ref"] == ref for choice in self.of(mode)) else ""

    def of(self, mode: str) -> list[dict[str, Any]]:
        """What a mode can ask: whatever chats can also be given a raw text."""
        return self.chats if mode == CHAT else self.texts

    def first(self, mode: str) -> str:
        """What a page that names no model opens with: one that chats, where there is one."""
        found = self.texts if mode == RAW else self.chats or self.texts
        return found[0]["ref"] if found else ""


@dataclass(frozen=True, slots=True)
class Picked:
    """What an address or a form asks for, as far as it is there."""

    mode: str
    chosen: str
    # Those in the lanes beside it, in their order.
    compared: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    vectors: dict[str, str] = field(default_factory=dict)


def choices_get(visitor: Visitor) -> Choices:
    """What runs, the models that answer now first, then the organisation's adapters on them."""
    models = list(model_list_running(org=visitor.org))
    adapters = [
        adapter for adapter in adapter_list(org=visitor.org)[:MOST_ADAPTERS] if adapter.state == "ready"
    ]
    texts = [model for model in models if model.surface != "embeddings"]
    prices = current_prices((model.id for model in texts), visitor)
    by_id = {
        model.id: {
            "ref": model.ref,
            "base": "",
            "context": model.context_length,
            "surface": model.surface,
        }
        | _price(prices.get(model.id))
        for model in texts
    }
    tuned = [
        by_id[adapter.base_id] | {"ref": adapter.ref, "base": adapter.base.ref}
        for adapter in adapters
        if adapter.base_id in by_id
    ]
    vectors = {
        model.ref: reverse("console:model", args=[model.organisation.slug, model.name])
        for model in models
        if model.surface == "embeddings"
    }
    vectors |= {
        adapter.ref: reverse("console:adapter", args=[adapter.id])
        for adapter in adapters
        if adapter.base.ref in vectors
    }
    return Choices([*by_id.values(), *tuned], vectors)


def choice_pick(choices: Choices, *, model: str, compare: Sequence[str], mode: str, is_form: bool) -> Picked:
    """Raw if it is asked for, and for what cannot chat whatever is asked for."""
    chosen = choices.known(model)
    if not model and not is_form:
        chosen = choices.first(mode)
    can_chat = not chosen or bool(choices.known(chosen, mode=CHAT))
    picked = RAW if mode == RAW or not can_chat else CHAT
    beside = [*compare[:MOST_COMPARED]]
    asked = [ref for ref in dict.fromkeys((model, *beside)) if ref and not choices.known(ref)]
    return Picked(
        mode=picked,
        # Another model in the place of one that is gone would answer, and be paid for, unasked.
        chosen=chosen,
        compared=[choices.known(ref, mode=picked) for ref in beside],
        unknown=[ref for ref in asked if ref not in choices.vectors],
        vectors={ref: choices.vectors[ref] for ref in asked if ref in choices.vectors},
    )


def _price(price: Any) -> dict[str, Any]:
    if price is None:
        return {"input": None, "output": None}
    return {"input": price.input_picousd, "output": price.output_picousd}
