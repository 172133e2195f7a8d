"""A model with what people choose by, and the orders that a list of them may have."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from kindling_billing.gpu_hours import HOUR_MS
from kindling_billing.models import PriceVersion
from kindling_billing.selectors import price_of
from kindling_platform.catalog.models import Model
from kindling_platform.catalog.speeds import NO_SPEEDS, Speeds

# What can be asked of a model, by its surface: a chat model also goes on with plain text, an embedding model ranks.
TASKS_OF = {
    "chat": ("chat", "completions"),
    "completions": ("completions",),
    "embeddings": ("embeddings", "rerank"),
}
TASKS = {
    "chat": "Chat",
    "completions": "Completions",
    "embeddings": "Embeddings",
    "rerank": "Rerank",
}


@dataclass(frozen=True, slots=True)
class Offer:
    """A model as one organisation gets it: its price, how fast it was, whether a replica is ready to answer now."""

    model: Model
    price: PriceVersion | None = None
    speeds: Speeds = NO_SPEEDS
    is_warm: bool = False

    @property
    def tasks(self) -> tuple[str, ...]:
        """What it can be asked for."""
        return TASKS_OF[self.model.surface]

    @property
    def hour_price_picousd(self) -> int:
        """What an hour of a replica of its own costs the organisation; 0 while it has no price."""
        return HOUR_MS * price_of(self.price).gpu_ms if self.price else 0


def _by_name(offer: Offer) -> tuple[Any, ...]:
    return offer.model.display_name.casefold(), offer.model.ref


def _by_price(offer: Offer) -> tuple[Any, ...]:
    price = offer.price
    if price is None:
        return True, 0, 0, *_by_name(offer)
    return False, price.output_picousd, price.input_picousd, *_by_name(offer)


def _by_context(offer: Offer) -> tuple[Any, ...]:
    return -offer.model.context_length, *_by_name(offer)


def _by_age(offer: Offer) -> tuple[Any, ...]:
    return -offer.model.created_at.timestamp(), *_by_name(offer)


ORDERS: dict[str, Callable[[Offer], tuple[Any, ...]]] = {
    "name": _by_name,
    "price": _by_price,
    "context": _by_context,
    "newest": _by_age,
}


def offers_sorted(offers: Sequence[Offer], order: str) -> list[Offer]:
    """By name; by price of output, then of input, those without a price last; longest context first; newest first."""
    return sorted(offers, key=ORDERS[order])
