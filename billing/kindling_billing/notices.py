"""What people should hear of: written in the transaction of its cause, delivered by whoever stands above billing."""

from collections.abc import Callable, Mapping
from typing import Any

from django.db import connection
from django.db.models import QuerySet
from psycopg.types.json import Jsonb

from kindling_billing.models import LedgerAccount, Notice, Terms, utc_now
from kindling_billing.models.terms import LOW_BY_DEFAULT_PICOUSD

LOW_BALANCE = "balance.low"
NOTE = """
    INSERT INTO billing_notice (kind, key, owner_id, data, created_at) VALUES (%s, %s, %s, %s, %s)
    ON CONFLICT (kind, key) DO NOTHING
"""
MOST_TROUBLE = 300
NOTICE_STATES: dict[str, dict[str, Any]] = {
    "": {},
    "waiting": {"done_at": None, "refused_at": None},
    "refused": {"done_at": None, "refused_at__isnull": False},
    "sent": {"done_at__isnull": False},
}


# Told of a notice that is new: its kind, whose it is, its data.
Hearer = Callable[[str, str, Mapping[str, Any]], None]
_hearers: list[Hearer] = []


def notices_hear(hearer: Hearer) -> None:
    """Have every new notice told to `hearer`, in the transaction that writes it; twice is once."""
    if hearer not in _hearers:
        _hearers.append(hearer)


def notice_add(*, kind: str, key: str, owner_id: str = "", data: dict[str, Any] | None = None) -> bool:
    """Note something once per kind and key; False when it was noted before."""
    values: list[Any] = [kind, key[:120], owner_id, Jsonb(data or {}), utc_now()]
    with connection.cursor() as cursor:
        cursor.execute(NOTE, values)
        is_new = bool(cursor.rowcount)
    if is_new:
        for hearer in _hearers:
            hearer(kind, owner_id, data or {})
    return is_new


def notice_list_waiting(*, limit: int = 100) -> list[Notice]:
    """What nobody has delivered yet, oldest first."""
    return list(Notice.objects.filter(done_at=None, refused_at=None).order_by("id")[:limit])


def notice_find(*, state: str = "") -> QuerySet[Notice]:
    """Notices that are waiting, refused or sent, or all of them, newest first."""
    return Notice.objects.filter(**NOTICE_STATES[state]).order_by("-id")


def notice_done(*, notice_id: int, trouble: str = "") -> bool:
    """Mark a notice as delivered; False when it was already."""
    rows = Notice.objects.filter(id=notice_id, done_at=None)
    return bool(rows.update(done_at=utc_now(), refused_at=None, trouble=trouble[:MOST_TROUBLE]))


def notice_not_taken(*, notice_id: int, trouble: str, is_final: bool) -> bool:
    """Note why nobody took a notice; it goes on waiting, or where that `is_final` waits for `notice_again`."""
    refused_at = utc_now() if is_final else None
    rows = Notice.objects.filter(id=notice_id, done_at=None)
    return bool(rows.update(refused_at=refused_at, trouble=trouble[:MOST_TROUBLE]))


def notice_again(*, notice_id: int) -> bool:
    """Have a notice delivered that was refused; False for one that was not."""
    rows = Notice.objects.filter(id=notice_id, done_at=None).exclude(refused_at=None)
    return bool(rows.update(refused_at=None))


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
