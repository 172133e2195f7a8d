"""What somebody wants of a model, as the API and the console read it from an address, and which filter is to blame.

A catalog has as many models as somebody brought onto this installation, so they are chosen in memory: no filter costs
a query, and all of them can be tried without each other.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

from kindling_billing.money import per_million_to_pico, pico_to_per_million
from kindling_platform.catalog.offers import ORDERS, TASKS, Offer, offers_sorted
from kindling_platform.common.errors import KindlingError

MOST_CHARS = 80
MOST_CONTEXT = 10**9
BILLION = 10**9
ON, OFF = {"1", "true", "on"}, {"", "0", "false", "off"}
# Billions of parameters, from and to; either may be left open.
SIZE = re.compile(r"([0-9]{1,6}(?:\.[0-9]{1,3})?)?-([0-9]{1,6}(?:\.[0-9]{1,3})?)?")


@dataclass(frozen=True, slots=True)
class Filter:
    """One of the filters that are set, by its parameter, in words, with the ids of the models that pass it."""

    name: str
    words: str
    passes: frozenset[str]


@dataclass(frozen=True, slots=True)
class Drop:
    """A filter without which there would be some: how many."""

    name: str
    words: str
    count: int


@dataclass(frozen=True, slots=True)
class Wish:
    """Filters, all of which have to hold, and an order. What is "", 0, None or False asks for nothing.

    `size` is billions of parameters as it was written; `price_max` pico-dollars per token, for input and for output.
    """

    q: str = ""
    task: str = ""
    size: str = ""
    context: int = 0
    price_max: int | None = None
    licence: str = ""
    lora: bool = False
    warm: bool = False
    sort: str = "name"

    def query(self) -> dict[str, str]:
        """Its parameters, those that ask for nothing left out."""
        price = "" if self.price_max is None else pico_to_per_million(self.price_max)
        texts = {
            "q": self.q, "task": self.task, "size": self.size, "context": str(self.context or ""),
            "price_max": price, "licence": self.licence, "lora": "1" if self.lora else "",
            "warm": "1" if self.warm else "", "sort": "" if self.sort == "name" else self.sort,
        }  # fmt: skip
        return {name: text for name, text in texts.items() if text}

    def choose(self, offers: Sequence[Offer]) -> list[Offer]:
        """Those that pass every filter, in the order asked for."""
        filters = self.filters(offers)
        passed = [offer for offer in offers if all(offer.model.id in one.passes for one in filters)]
        return offers_sorted(passed, self.sort)

    def drops(self, offers: Sequence[Offer]) -> list[Drop]:
        """The single filters without which some of the offers would be left, the most helpful first."""
        filters = self.filters(offers)
        everything = frozenset(offer.model.id for offer in offers)
        found = []
        for one in filters:
            left = everything.intersection(*(other.passes for other in filters if other is not one))
            if left:
                found.append(Drop(one.name, one.words, len(left)))
        return sorted(found, key=lambda drop: -drop.count)

    def filters(self, offers: Sequence[Offer]) -> list[Filter]:
        """Those that are set."""
        low, high = _bounds(self.size)
        words = self.q.casefold().split()
        price_max, licence = self.price_max, self.licence.casefold()
        asked: tuple[tuple[str, str, bool, Callable[[Offer], bool]], ...] = (
            ("q", f"the search for “{self.q}”", bool(words), lambda one: _has(one, words)),
            ("task", f"the task “{TASKS.get(self.task, '')}”", bool(self.task), lambda one: self.task in one.tasks),
            ("size", f"the size ({size_words(self.size)})", bool(self.size),
                lambda one: low <= one.model.parameters and (high is None or one.model.parameters <= high)),
            ("context", f"the context of {self.context:,} tokens", self.context > 0,
                lambda one: one.model.context_length >= self.context),
            ("price_max", f"the price ceiling of ${pico_to_per_million(price_max or 0)}", price_max is not None,
                lambda one: _costs_at_most(one, price_max)),
            ("licence", f"the licence “{self.licence}”", bool(licence),
                lambda one: one.model.licence.casefold() == licence),
            ("lora", "“LoRA-ready”", self.lora, lambda one: one.model.lora_ready),
            ("warm", "“Warm”", self.warm, lambda one: one.is_warm),
        )  # fmt: skip
        return [
            Filter(name, text, frozenset(offer.model.id for offer in offers if holds(offer)))
            for name, text, is_set, holds in asked
            if is_set
        ]


def wish_of(asked: Mapping[str, str]) -> tuple[Wish, list[KindlingError]]:
    """A wish from the parameters of an address, and what in them cannot be one; that is left out of it.

    Each of the errors is a `parameter_invalid` with its `param`. A program is refused by the first, a person told.
    """
    reader = _Reader(asked)
    wish = Wish(
        q=reader.text("q"),
        task=reader.choice("task", TASKS),
        size=reader.size("size"),
        context=reader.whole("context"),
        price_max=reader.price("price_max"),
        licence=reader.text("licence"),
        lora=reader.switch("lora"),
        warm=reader.switch("warm"),
        sort=reader.choice("sort", ORDERS) or "name",
    )
    return wish, reader.errors


def size_words(size: str) -> str:
    """A size as people say it."""
    low, _, high = size.partition("-")
    if not low:
        return f"up to {high}B"
    return f"{low}B to {high}B" if high else f"{low}B and more"


class _Reader:
    def __init__(self, asked: Mapping[str, str]) -> None:
        self._asked = asked
        self.errors: list[KindlingError] = []

    def text(self, name: str) -> str:
        text = self._asked.get(name, "").strip()
        if len(text) <= MOST_CHARS and "\0" not in text:
            return text
        self._wrong(name, f"Give up to {MOST_CHARS} characters.")
        return ""

    def choice(self, name: str, known: Mapping[str, object]) -> str:
        text = self.text(name)
        if not text or text in known:
            return text
        self._wrong(name, f"Choose among {', '.join(known)}.")
        return ""

    def switch(self, name: str) -> bool:
        text = self.text(name).lower()
        if text not in ON | OFF:
            self._wrong(name, "Give true or false.")
        return text in ON

    def whole(self, name: str) -> int:
        text = self.text(name)
        if text and not (text.isascii() and text.isdigit() and int(text) <= MOST_CONTEXT):
            self._wrong(name, f"Give a whole number of tokens, {MOST_CONTEXT:,} at most.")
            return 0
        return int(text or 0)

    def price(self, name: str) -> int | None:
        text = self.text(name)
        if not text:
            return None
        try:
            return per_million_to_pico(text)
        except ValueError as error:
            self._wrong(name, str(error))
            return None

    def size(self, name: str) -> str:
        text = self.text(name)
        if not text:
            return ""
        read = SIZE.fullmatch(text)
        low, high = _bounds(text) if read and text != "-" else (1, 0)
        if high is not None and low > high:
            self._wrong(name, "Give billions of parameters from and to, such as 1-4, -1 or 40-.")
            return ""
        return text

    def _wrong(self, name: str, text: str) -> None:
        self.errors.append(KindlingError("parameter_invalid", text, param=name))


def _bounds(size: str) -> tuple[int, int | None]:
    """The fewest and the most parameters of a size that was read."""
    low, _, high = size.partition("-")
    return int(Decimal(low or 0) * BILLION), int(Decimal(high) * BILLION) if high else None


def _has(offer: Offer, words: list[str]) -> bool:
    model = offer.model
    text = f"{model.ref} {model.display_name} {model.description}".casefold()
    return all(word in text for word in words)


def _costs_at_most(offer: Offer, price_max: int | None) -> bool:
    """Whether neither input nor output costs more; an embedding model has no output."""
    price = offer.price
    if price is None or price_max is None:
        return False
    made = 0 if offer.model.task == "embed" else price.output_picousd
    return bool(max(price.input_picousd, made) <= price_max)
