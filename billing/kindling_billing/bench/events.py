"""A synthetic month: owners on plans, prices that change within it, and events that come out the same each time."""

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from kindling_billing.book import PriceBook, Term, Version
from kindling_billing.rating import Price, Used

START = datetime(2026, 3, 1, tzinfo=UTC)
SECONDS = 31 * 86_400
OWNERS = [f"org_{number:03}" for number in range(200)]
SKUS = [f"mdl_{number:02}" for number in range(20)]
PLAN = "pln_friends"
SEED = 20_260_301


class Event(NamedTuple):
    """One request: who, what, when, how much."""

    owner_id: str
    sku: str
    at: datetime
    used: Used


def month_book(*, corrected: bool = False) -> PriceBook:
    """Prices that change on the 11th, a plan that begins on the 16th; `corrected` mends half of them from the 21st."""
    dice = random.Random(SEED)  # noqa: S311
    versions = []
    for sku in SKUS:
        for plan, day in (("", 0), ("", 10), (PLAN, 0)):
            price = _price(dice)
            versions.append(Version(f"prc_{sku}_{plan}_{day}", plan, sku, START + timedelta(days=day), price))
    if corrected:
        versions += [
            Version(f"prc_{sku}_corrected", "", sku, START + timedelta(days=20), _price(dice))
            for sku in SKUS[::2]
        ]
    middle = START + timedelta(days=15)
    terms = [Term(owner, PLAN, middle, number) for number, owner in enumerate(OWNERS) if number % 5 == 0]
    return PriceBook(versions, terms)


def month_events(count: int) -> Iterator[Event]:
    """So many events, spread over the month; the same ones in every call."""
    bits_of = random.Random(SEED + 1).getrandbits  # noqa: S311
    for _ in range(count):
        bits = bits_of(96)
        prompt, made, share = bits & 4095, bits >> 12 & 1023, bits >> 22 & 255
        owner, sku = bits >> 30 & 0xFFFF, bits >> 46 & 0xFFFF
        yield Event(
            OWNERS[owner * owner * len(OWNERS) >> 32],  # a few use much, many little
            SKUS[sku * len(SKUS) >> 16],
            START + timedelta(seconds=(bits >> 62) * SECONDS >> 34),
            Used(
                prompt_tokens=prompt,
                cached_tokens=prompt * share >> 8 if prompt & 1 else 0,
                completion_tokens=made,
                reasoning_tokens=made // 3 if made & 1 else 0,
                batch=made % 10 == 0,
            ),
        )


def _price(dice: random.Random) -> Price:
    amount = dice.randrange(50_001, 900_001)
    reasoning = dice.choice([None, amount * 3])
    return Price(amount, amount // 2, amount * 4, reasoning=reasoning, batch_percent=dice.choice([50, 55]))
