"""The last days of a component as a strip of cells: what each is drawn as, and the same in words.

A cell's height says as much as its colour: whole where every minute was up, lower where some were not, lowest where
most were not, and a line at the foot where nobody looked.
"""

from dataclasses import dataclass

from kindling_platform.status.selectors import Component, Day

CELL, GAP, HEIGHT = 8, 2, 32
# What is drawn for a day, and its height.
HEIGHTS = {"up": 32, "mixed": 22, "down": 12, "none": 2}
# What the drawing's key says, with where each begins.
KEY = tuple(
    (kind, HEIGHT - HEIGHTS[kind], HEIGHTS[kind], words)
    for kind, words in (
        ("up", "Up all the time"), ("mixed", "Not all the time"), ("down", "Less than half"), ("none", "No data"),
    )
)  # fmt: skip
# Of a day that was up in fewer of its minutes than this most is wrong.
MOSTLY = 0.5


@dataclass(frozen=True, slots=True)
class Cell:
    """One day in the drawing's coordinates, with the words of its title."""

    x: int
    y: int
    height: int
    kind: str
    words: str


@dataclass(frozen=True, slots=True)
class Strip:
    """A component's days as a drawing; `uneven` are those that were not all up, in words, the newest first."""

    width: int
    cells: tuple[Cell, ...]
    uneven: tuple[str, ...]
    words: str
    share: str


def strip_of(component: Component) -> Strip:
    """Draw a component's days, the oldest at the left."""
    cells = tuple(
        Cell(place * (CELL + GAP), HEIGHT - HEIGHTS[kind], HEIGHTS[kind], kind, day_words(day))
        for place, day in enumerate(component.days)
        for kind in [kind_of(day)]
    )
    uneven = tuple(day_words(day) for day in reversed(component.days) if kind_of(day) in ("mixed", "down"))
    share = percent(component.up_share)
    empty = sum(not day.minutes for day in component.days)
    words = f"Last {len(component.days)} days: "
    if component.minutes:
        words += f"up in {share} of {component.minutes:,} measured minutes; {_days(len(uneven))} not all up"
        words += f"; no data for {empty} days." if empty else "."
    else:
        words += "no data."
    return Strip(len(cells) * (CELL + GAP) - GAP, cells, uneven, words, share)


def _days(number: int) -> str:
    return "1 day was" if number == 1 else f"{number} days were"


def kind_of(day: Day) -> str:
    """What a day is drawn as."""
    if not day.minutes:
        return "none"
    if day.up == day.minutes:
        return "up"
    return "mixed" if (day.up + day.limited) / day.minutes >= MOSTLY else "down"


def day_words(day: Day) -> str:
    """What a day was like."""
    when = f"{day.day:%-d %b %Y}"
    if not day.minutes:
        return f"{when}: no data"
    parts = [f"{count:,} {word}" for count, word in ((day.limited, "limited"), (day.down, "down")) if count]
    told = f", {' and '.join(parts)}" if parts else ""
    return f"{when}: up in {percent(day.up / day.minutes)} of {day.minutes:,} minutes{told}"


def percent(share: float | None) -> str:
    """A share of minutes, cut off rather than rounded: less than all of them is never 100 %."""
    if share is None:
        return "—"
    hundredths = int(share * 10_000)
    return f"{hundredths // 100}.{hundredths % 100:02d} %" if hundredths < 10_000 else "100 %"
