"""What people should hear of: written in the transaction of its cause, delivered by whoever stands above billing."""

from collections.abc import Mapping
from typing import Any

from django.db import connection
from psycopg.types.json import Jsonb

from kindling_billing.models import LedgerAccount, Notice, Terms, utc_now
from kindling_billing.money import PICO_PER_USD

LOW_BALANCE = "balance.low"
NOTE = """
    INSERT INTO billing_notice (kind, key, owner_id, data, created_at) VALUES (%s, %s, %s, %s, %s)
    ON CONFLICT (kind, key) DO NOTHING
"""
LOW_BY_DEFAULT_PICOUSD = PICO_PER_USD


def notice_add(*, kind: str, key: str, owner_id: str = "", data: dict[str, Any] | None = None) -> bool:
    """Note something once per kind and key; False when it was noted before."""
    values: list[Any] = [kind, key[:120], owner_id, Jsonb(data or {}), utc_now()]
    with connection.cursor() as cursor:
        cursor.execute(NOTE, values)
        return bool(cursor.rowcount)


def notice_list_waiting(*, limit: int = 100) -> list[Notice]:
    """What nobody has delivered yet, oldest first."""
    return list(Notice.objects.filter(done_at=None).order_by("id")[:limit])


def notice_done(*, notice_id: int) -> bool:
    """Mark a notice as delivered; False when it was already."""
    return bool(Notice.objects.filter(id=notice_id, done_at=None).update(done_at=utc_now()))


def low_balance_note(spent: Mapping[str, int]) -> None:
    """Note every prepaid wallet that fell below its owner's threshold by spending so much just now."""
    if not spent:
        return
    accounts = LedgerAccount.objects.filter(kind="wallet", owner_id__in=list(spent))
    rows = list(accounts.values_list("owner_id", "balance_picousd", "version"))
    terms = {row.owner_id: row for row in Terms.objects.filter(owner_id__in=list(spent))}
    for owner_id, balance, version in rows:
        agreed = terms.get(owner_id)
        if agreed and agreed.mode == Terms.Mode.POSTPAID:
            continue
        threshold = agreed.low_balance_picousd if agreed else LOW_BY_DEFAULT_PICOUSD
        if balance < threshold <= balance + spent[owner_id]:
            data = {"balance_picousd": str(int(balance)), "threshold_picousd": str(threshold)}
            notice_add(kind=LOW_BALANCE, key=f"{owner_id}:{version}", owner_id=owner_id, data=data)
