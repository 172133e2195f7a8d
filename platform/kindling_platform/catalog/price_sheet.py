"""The price book as a table that is edited elsewhere and read again: every row is checked before any is taken."""

import csv
import io
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from kindling_billing.book import BOOK, Version
from kindling_billing.effects import draft
from kindling_billing.money import per_million_to_pico, pico_to_per_million
from kindling_billing.rating import Price

PRICES = (
    "input_usd_per_million",
    "cached_input_usd_per_million",
    "output_usd_per_million",
    "reasoning_usd_per_million",
)
COLUMNS = ("model", "plan", "valid_from", *PRICES, "batch_percent", "gpu_picousd_per_ms")
NEEDED = ("model", *PRICES[:3])
MOST_ROWS = 2_000
MOST_CHARS = 500_000
MOST_ERRORS = 50


@dataclass(frozen=True, slots=True)
class RowError:
    """What is wrong with a line of the table; the header is line 1."""

    line: int
    message: str


@dataclass(slots=True)
class Sheet:
    """What was read: drafts of rows that are not published yet, how many are, and what cannot be taken."""

    drafts: list[Version] = field(default_factory=list)
    known: int = 0
    errors: list[RowError] = field(default_factory=list)


def sheet_rows(
    versions: Iterable[Version], *, models: Mapping[str, str], plans: Mapping[str, str]
) -> Iterator[tuple[Any, ...]]:
    """The table, header first: every version by model, plan and moment; `models` and `plans` are names by id."""
    yield COLUMNS
    for version in sorted(
        versions, key=lambda one: (models.get(one.sku, one.sku), one.plan_id, one.valid_from)
    ):
        price = version.price
        counted = [price.input, price.cached_input, price.output]
        yield (
            models.get(version.sku, version.sku),
            plans.get(version.plan_id, version.plan_id),
            version.valid_from.astimezone(UTC).isoformat(),
            *(pico_to_per_million(one) for one in counted),
            "" if price.reasoning is None else pico_to_per_million(price.reasoning),
            price.batch_percent,
            price.gpu_ms,
        )


def sheet_read(
    text: str,
    *,
    models: Mapping[str, str],
    plans: Mapping[str, str],
    published: Iterable[Version],
    at: datetime,
) -> Sheet:
    """Read a table; rows equal to a published version are known, an empty `valid_from` is `at`.

    `models` and `plans` are ids by name.
    """
    sheet = Sheet()
    if len(text) > MOST_CHARS:
        sheet.errors.append(RowError(1, f"The table has more than {MOST_CHARS:,} characters."))
        return sheet
    try:
        rows = list(csv.reader(io.StringIO(text.lstrip("\ufeff")), strict=True))
    except csv.Error as error:
        sheet.errors.append(RowError(1, f"This is no CSV: {error}."))
        return sheet
    header = [name.strip().lower() for name in rows[0]] if rows else []
    if wrong := _header_wrong(header):
        sheet.errors.append(RowError(1, wrong))
        return sheet
    if len(rows) > MOST_ROWS:
        sheet.errors.append(RowError(1, f"A table has at most {MOST_ROWS:,} rows."))
        return sheet
    reader = _Reader(models, plans, {_identity(one) for one in published}, at)
    for line, cells in enumerate(rows[1:], start=2):
        if any(cell.strip() for cell in cells) and len(sheet.errors) < MOST_ERRORS:
            reader.take(line, header, cells, sheet)
    return sheet


class _Reader:
    def __init__(
        self, models: Mapping[str, str], plans: Mapping[str, str], known: set[Any], at: datetime
    ) -> None:
        self._models, self._plans, self._known, self._at = models, plans, known, at
        self._lines: dict[tuple[str, str, datetime], int] = {}

    def take(self, line: int, header: list[str], cells: list[str], sheet: Sheet) -> None:
        try:
            found = self._version(header, cells)
        except ValueError as error:
            sheet.errors.append(RowError(line, str(error)))
            return
        if _identity(found) in self._known:
            sheet.known += 1
            return
        key = (found.plan_id, found.sku, found.valid_from)
        if key in self._lines:
            text = f"Line {self._lines[key]} has a price of the same model and moment."
            sheet.errors.append(RowError(line, text))
            return
        self._lines[key] = line
        sheet.drafts.append(found)

    def _version(self, header: list[str], cells: list[str]) -> Version:
        if len(cells) != len(header):
            raise ValueError(f"The line has {len(cells)} cells, the header {len(header)}.")
        row = {name: cell.strip() for name, cell in zip(header, cells, strict=True)}
        model, plan = row["model"], row.get("plan", "")
        if model not in self._models:
            raise ValueError(f"There is no model {model[:80]!r}.")
        reasoning = row.get("reasoning_usd_per_million", "")
        price = Price(
            input=_price(PRICES[0], row[PRICES[0]]),
            cached_input=_price(PRICES[1], row[PRICES[1]]),
            output=_price(PRICES[2], row[PRICES[2]]),
            reasoning=_price(PRICES[3], reasoning) if reasoning else None,
            gpu_ms=_whole("gpu_picousd_per_ms", row.get("gpu_picousd_per_ms", ""), default=0, most=10**12),
            batch_percent=_whole("batch_percent", row.get("batch_percent", ""), default=50, most=100),
        )
        moment = _moment(row.get("valid_from", ""), self._at)
        return draft(sku=self._models[model], plan_id=self._plan(plan), valid_from=moment, price=price)

    def _plan(self, name: str) -> str:
        if not name:
            return BOOK
        # A spreadsheet's guard against formulas stands before some names.
        found = self._plans.get(name) or self._plans.get(name.removeprefix("'"))
        if found is None:
            raise ValueError(f"There is no price plan {name[:80]!r}.")
        return found


def _header_wrong(header: list[str]) -> str:
    if missing := [name for name in NEEDED if name not in header]:
        return f"The header lacks {', '.join(missing)}."
    if unknown := [name for name in header if name not in COLUMNS]:
        return f"The header has a column {unknown[0][:40]!r} that is not known."
    return "A column stands in the header twice." if len(set(header)) != len(header) else ""


def _price(name: str, text: str) -> int:
    try:
        price = per_million_to_pico(text)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None
    if price > 10**12:
        raise ValueError(f"{name}: A price per token is at most one dollar.")
    return price


def _whole(name: str, text: str, *, default: int, most: int) -> int:
    if not text:
        return default
    if not (text.isascii() and text.isdigit() and len(text) <= 15) or int(text) > most:
        raise ValueError(f"{name}: Give a whole number from 0 to {most}.")
    return int(text)


def _moment(text: str, default: datetime) -> datetime:
    if not text:
        return default
    try:
        moment = datetime.fromisoformat(text)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValueError("valid_from: Give a moment such as 2026-12-01T00:00:00+00:00.") from None


def _identity(version: Version) -> tuple[Any, ...]:
    return version.plan_id, version.sku, version.valid_from, version.price
