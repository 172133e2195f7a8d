"""Organisations at risk as a table."""

from collections.abc import Iterator
from typing import Any

from kindling_platform.usage.risk import risk_list

COLUMNS = (
    "organisation_id", "slug", "name", "balance_picousd", "spendable_picousd", "burn_picousd_per_day", "days_left",
    "open_cents", "overdue_invoices", "reminder", "disputed_cents", "reasons", "details",
)  # fmt: skip


def risk_rows(*, kind: str = "") -> Iterator[list[Any]]:
    """Every organisation at risk behind a header, one line each; with `kind` those that have it among their reasons."""
    yield list(COLUMNS)
    for row in risk_list(kind=kind):
        standing = row.standing
        yield [
            row.org.id, row.org.slug, row.org.name, standing.balance_picousd, standing.spendable_picousd,
            row.burn_picousd_per_day, None if row.days_left is None else f"{row.days_left:.2f}",
            standing.open_cents, len(standing.overdue), max((one.dunned for one in standing.overdue), default=0),
            standing.disputed_cents, " ".join(one.kind for one in row.risks), " ".join(one.text for one in row.risks),
        ]  # fmt: skip
