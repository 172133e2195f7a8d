"""Usage and takings of the installation side by side, step by step: the operator's page, its CSV and the API."""

from collections.abc import Iterable, Iterator
from dataclasses import astuple, dataclass, field, fields
from datetime import datetime
from typing import Any

from kindling_billing.takings import Takings, takings_over_time
from kindling_platform.usage.overview import FIGURES, Figures, usage_over_time


@dataclass(slots=True)
class RevenueStep:
    """One hour, day or month."""

    moment: datetime
    usage: Figures = field(default_factory=Figures)
    takings: Takings = field(default_factory=Takings)


def revenue_steps(
    *, start: datetime, end: datetime, step: str, moments: Iterable[datetime] = ()
) -> list[RevenueStep]:
    """Every hour, day or month with usage or takings, and each of `moments` whether it has any; oldest first."""
    used = usage_over_time(start=start, end=end, step=step)
    taken = takings_over_time(start=start, end=end, step=step)
    return [
        RevenueStep(moment, used.get(moment, Figures()), taken.get(moment, Takings()))
        for moment in sorted({*used, *taken, *moments})
    ]


def revenue_rows(*, step: str, steps: Iterable[RevenueStep]) -> Iterator[list[Any]]:
    """A header, then a row for each step with all its figures, in whole pico-dollars."""
    yield [step, *FIGURES[:-1], "usage_picousd", *(f"{one.name}_picousd" for one in fields(Takings))]
    for row in steps:
        yield [row.moment, *(getattr(row.usage, name) for name in FIGURES), *astuple(row.takings)]
