"""Balances, ledger lines and prices."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from django.db import connection
from django.db.models import Sum

from kindling_billing.models import LedgerAccount, LedgerEntry, PriceVersion, utc_now


@dataclass(frozen=True, slots=True)
class Balance:
    """What a wallet holds, and a number that grows with every posting."""

    picousd: int
    version: int


@dataclass(frozen=True, slots=True)
class LedgerLine:
    """One line of a wallet's account: `id` orders the lines, `source_id` names the cause."""

    id: int
    transaction_id: str
    source_type: str
    source_id: str
    memo: str
    amount_picousd: int
    posted_at: datetime


def balance_get(*, owner_id: str) -> Balance:
    """A wallet's balance; zero when nothing was ever posted."""
    return balance_map(owner_ids=[owner_id]).get(owner_id, Balance(0, 0))


def balance_map(*, owner_ids: Iterable[str]) -> dict[str, Balance]:
    """Balances of those owners who have a wallet."""
    rows = LedgerAccount.objects.filter(kind="wallet", owner_id__in=list(owner_ids))
    return {row.owner_id: Balance(int(row.balance_picousd), row.version) for row in rows}


def ledger_list(*, owner_id: str, before_id: int | None = None, limit: int = 100) -> list[LedgerLine]:
    """A wallet's lines, newest first; `before_id` is the last line of the page before."""
    rows = LedgerEntry.objects.filter(account__kind="wallet", account__owner_id=owner_id)
    if before_id is not None:
        rows = rows.filter(id__lt=before_id)
    return [
        LedgerLine(
            id=row.id,
            transaction_id=row.transaction_id,
            source_type=row.transaction.source_type,
            source_id=row.transaction.source_id,
            memo=row.transaction.memo,
            amount_picousd=int(row.amount_picousd),
            posted_at=row.transaction.posted_at,
        )
        for row in rows.select_related("transaction").order_by("-id")[:limit]
    ]


def price_current(*, sku: str, at: datetime | None = None) -> PriceVersion | None:
    """The price version in force at a moment, None when there is none."""
    return price_map_current(skus=[sku], at=at).get(sku)


def price_map_current(*, skus: Iterable[str], at: datetime | None = None) -> dict[str, PriceVersion]:
    """The price versions in force, by sku; skus without a price are absent."""
    rows = PriceVersion.objects.filter(sku__in=list(skus), valid_from__lte=at or utc_now())
    newest = rows.order_by("sku", "-valid_from", "-id").distinct("sku")
    return {row.sku: row for row in newest}


def price_list(*, sku: str) -> list[PriceVersion]:
    """Every price version of a sku, newest first."""
    return list(PriceVersion.objects.filter(sku=sku).order_by("-valid_from", "-id"))


def price_map(*, price_ids: Iterable[str]) -> dict[str, PriceVersion]:
    """Price versions by their ids."""
    return {row.id: row for row in PriceVersion.objects.filter(id__in=list(price_ids))}


def ledger_sum() -> int:
    """All entries together: zero in sound books."""
    return int(LedgerEntry.objects.aggregate(total=Sum("amount_picousd"))["total"] or 0)


def drift_list() -> list[tuple[str, str, int]]:
    """Accounts whose balance is not the sum of their entries: (kind, owner, difference). Empty in sound books."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT account.kind, account.owner_id, account.balance_picousd - coalesce(sum(entry.amount_picousd), 0)"
            " FROM billing_ledgeraccount AS account"
            " LEFT JOIN billing_ledgerentry AS entry ON entry.account_id = account.id"
            " GROUP BY account.id HAVING account.balance_picousd <> coalesce(sum(entry.amount_picousd), 0)"
        )
        return [(kind, owner, int(difference)) for kind, owner, difference in cursor.fetchall()]
