"""The sums that invoices are made of, moved by the transaction that posts the money.

Which invoice a usage goes on is decided while its owner's wallet is locked, as making an invoice final does too:
nothing falls between two invoices, and nothing is added to a final one.
"""

import json
from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime
from typing import NamedTuple

from django.db import connection
from django.db.models import Max, Min

from kindling_billing.models import Invoice, UsageTotal, utc_now
from kindling_billing.rating import Line

LabelKey = tuple[str, date, str]
TotalKey = tuple[str, date, str, str, int]


# Made by the million, and a tuple is made in a third of a dataclass's time.
class TotalChange(NamedTuple):
    """The lines of one event, added (sign 1) or taken back (-1)."""

    owner_id: str
    used_at: datetime | None
    sku: str
    label: str
    lines: tuple[Line, ...]
    sign: int


def totals_add(changes: Sequence[TotalChange]) -> None:
    """Add lines to their owners' months; the wallets must be locked by this transaction."""
    if not changes:
        return
    sums, labels = _summed(changes)
    closed = months_closed({owner_id for owner_id, *_ in labels})
    rows: list[tuple[object, ...]] = []
    for key in sorted(sums):
        owner_id, used, *_ = key
        billed = max(used, month_after(closed[owner_id])) if owner_id in closed else used
        rows.append((*key, billed, labels[key[:3]][:160], *sums[key]))
    _upsert(rows)


def months_closed(owner_ids: Iterable[str]) -> dict[str, date]:
    """The last month of each owner whose invoice is final; owners without one are absent."""
    rows = Invoice.objects.filter(owner_id__in=list(owner_ids)).exclude(state=Invoice.State.DRAFT)
    return {row["owner_id"]: row["last"] for row in rows.values("owner_id").annotate(last=Max("month"))}


def months_open(owner_ids: Iterable[str]) -> dict[str, date]:
    """The earliest month of each owner's usage that is not on a final invoice; owners without any are absent."""
    owners = list(owner_ids)
    closed = months_closed(owners)
    rows = UsageTotal.objects.filter(owner_id__in=owners).exclude(quantity=0, amount_picousd=0)
    first: dict[str, date] = {}
    for row in rows.values("owner_id", "billed_month").annotate(used=Min("used_month")):
        owner_id = row["owner_id"]
        if owner_id not in closed or row["billed_month"] > closed[owner_id]:
            first[owner_id] = min(first.get(owner_id, row["used"]), row["used"])
    return first


def month_of(moment: datetime) -> date:
    """The first day of a moment's month, UTC."""
    return moment.astimezone(UTC).date().replace(day=1)


def month_after(month: date) -> date:
    """The first day of the month after."""
    return date(month.year + month.month // 12, month.month % 12 + 1, 1)


def _summed(changes: Sequence[TotalChange]) -> tuple[dict[TotalKey, list[int]], dict[LabelKey, str]]:
    """Quantity and amount of each sort of line, and what its model is called."""
    sums: dict[TotalKey, list[int]] = {}
    labels: dict[LabelKey, str] = {}
    today = utc_now()
    for owner_id, used_at, sku, label, lines, sign in changes:
        used = month_of(used_at or today)
        labels[owner_id, used, sku] = label
        for unit, quantity, price in lines:
            found = sums.get(key := (owner_id, used, sku, unit, price))
            if found is None:
                found = sums[key] = [0, 0]
            found[0] += sign * quantity
            found[1] += sign * quantity * price
    return sums, labels


def _upsert(rows: list[tuple[object, ...]]) -> None:
    names = ("owner", "used", "sku", "unit", "price", "billed", "label", "quantity", "amount")
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO billing_usagetotal AS total (owner_id, used_month, sku, unit, unit_price_picousd,"
            " billed_month, label, quantity, amount_picousd)"
            " SELECT * FROM json_to_recordset(%s::json) AS new(owner text, used date, sku text, unit text,"
            " price bigint, billed date, label text, quantity numeric, amount numeric)"
            " ON CONFLICT (owner_id, billed_month, used_month, sku, unit, unit_price_picousd) DO UPDATE SET"
            " label = excluded.label, quantity = total.quantity + excluded.quantity,"
            " amount_picousd = total.amount_picousd + excluded.amount_picousd",
            [json.dumps([dict(zip(names, row, strict=True)) for row in rows], default=date.isoformat)],
        )
