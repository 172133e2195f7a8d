"""Balances, ledger lines and prices."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from django.db import connection
from django.db.models import Q, QuerySet, Subquery, Sum

from kindling_billing.book import PriceBook, Term, Version
from kindling_billing.models import (
    CreditGrant,
    LedgerAccount,
    LedgerEntry,
    LedgerTransaction,
    PlanTerm,
    PriceVersion,
    UsageTotal,
    utc_now,
)
from kindling_billing.rating import GPU, Price

USAGE_TYPES = ("usage", "usage_reversal")
_NEWEST_GPU_TIME = """
SELECT newest.id FROM unnest(%s::text[]) AS deployment(id) CROSS JOIN LATERAL (
    SELECT cause.id FROM billing_ledgertransaction AS cause
    WHERE cause.source_type = 'gpu_time' AND cause.data ->> 'deployment' = deployment.id
        AND (%s = '' OR cause.id <= %s)
    ORDER BY cause.id DESC LIMIT %s
) AS newest ORDER BY newest.id DESC LIMIT %s
"""


@dataclass(frozen=True, slots=True)
class Balance:
    """What a wallet holds, and a number that grows with every posting."""

    picousd: int
    version: int


def balance_get(*, owner_id: str) -> Balance:
    """A wallet's balance; zero when nothing was ever posted."""
    return balance_map(owner_ids=[owner_id]).get(owner_id, Balance(0, 0))


def balance_map(*, owner_ids: Iterable[str]) -> dict[str, Balance]:
    """Balances of those owners who have a wallet."""
    rows = LedgerAccount.objects.filter(kind="wallet", owner_id__in=list(owner_ids))
    return {row.owner_id: Balance(int(row.balance_picousd), row.version) for row in rows}


def spendable_map(*, owner_ids: Iterable[str]) -> dict[str, Balance]:
    """What owners may still spend: their wallet, and for post-paid ones what is left of their credit limit.

    Owners without a wallet and without terms are absent; nothing is left to a suspended one. The version grows with
    every change of any of it.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT owner_id, picousd, version FROM billing_spendable WHERE owner_id = ANY(%s)",
            [list(owner_ids)],
        )
        return {owner: Balance(int(picousd), version) for owner, picousd, version in cursor.fetchall()}


def ledger_list(*, owner_id: str) -> QuerySet[LedgerEntry]:
    """The lines of an owner's wallet with their causes, newest first."""
    rows = LedgerEntry.objects.filter(account__kind="wallet", account__owner_id=owner_id)
    return rows.select_related("transaction").order_by("-id")


def ledger_list_granted(*, owner_id: str, source_type: str) -> QuerySet[LedgerEntry]:
    """Those lines of a wallet that brought a portion of credit: `payment` or `credit`.

    They are found by the portions. Among the millions of lines of somebody's usage they would be long looked for.
    """
    portions = CreditGrant.objects.filter(owner_id=owner_id, source_type=source_type).values("source_id")
    causes = LedgerTransaction.objects.filter(source_type=source_type, source_id__in=portions)
    return ledger_list(owner_id=owner_id).filter(transaction_id__in=list(causes.values_list("id", flat=True)))


def ledger_list_gpu_time(*, owner_id: str, newest: int, until: str = "") -> QuerySet[LedgerEntry]:
    """At most so many of those lines of a wallet that charged the time of replicas, newest first by transaction.

    They are found by the deployments that the months' totals name, as portions are among millions of lines; of each
    the newest alone are read, up to the transaction `until` where one is given. A year of a replica has 8,760.
    """
    totals = UsageTotal.objects.filter(owner_id=owner_id, unit=GPU)
    deployments = list(totals.values_list("sku", flat=True).distinct())
    with connection.cursor() as cursor:
        cursor.execute(_NEWEST_GPU_TIME, [deployments, until, until, newest, newest])
        causes = [id_ for (id_,) in cursor.fetchall()]
    return ledger_list(owner_id=owner_id).filter(transaction_id__in=causes).order_by("-transaction_id")


def ledger_list_usage(*, owner_id: str) -> QuerySet[LedgerEntry]:
    """Those lines of a wallet that charged requests, or took a charge back."""
    return ledger_list(owner_id=owner_id).filter(transaction__source_type__in=USAGE_TYPES)


def price_current(*, sku: str, at: datetime | None = None) -> PriceVersion | None:
    """The price version in force at a moment, None when there is none."""
    return price_map_current(skus=[sku], at=at).get(sku)


def price_map_current(
    *, skus: Iterable[str], at: datetime | None = None, owner_id: str = ""
) -> dict[str, PriceVersion]:
    """The price versions in force, by sku, an owner's plan before the book; skus without a price are absent."""
    moment = at or utc_now()
    terms = PlanTerm.objects.filter(owner_id=owner_id, valid_from__lte=moment).order_by("-valid_from", "-id")
    rows = PriceVersion.objects.filter(sku__in=list(skus), valid_from__lte=moment)
    rows = rows.filter(Q(plan_id="") | Q(plan_id=Subquery(terms.values("plan_id")[:1])))
    newest = rows.order_by("sku", "-plan_id", "-valid_from", "-id").distinct("sku")
    return {row.sku: row for row in newest}


def price_map_of_owners(
    *, skus: Iterable[str], owner_ids: Iterable[str], at: datetime | None = None
) -> dict[tuple[str, str], PriceVersion]:
    """As `price_map_current` for many owners at once, by owner and sku; two queries however many they are."""
    moment, owners, names = at or utc_now(), list(owner_ids), list(skus)
    terms = PlanTerm.objects.filter(owner_id__in=owners, valid_from__lte=moment)
    terms = terms.order_by("owner_id", "-valid_from", "-id").distinct("owner_id")
    plans = dict(terms.values_list("owner_id", "plan_id"))
    rows = PriceVersion.objects.filter(
        sku__in=names, valid_from__lte=moment, plan_id__in={"", *plans.values()}
    )
    newest = rows.order_by("sku", "plan_id", "-valid_from", "-id").distinct("sku", "plan_id")
    by_plan = {(row.plan_id, row.sku): row for row in newest}
    found = {
        (owner, sku): by_plan.get((plans.get(owner, ""), sku)) or by_plan.get(("", sku))
        for owner in owners
        for sku in names
    }
    return {key: row for key, row in found.items() if row is not None}


def price_book(*, skus: Iterable[str] | None = None, owner_ids: Iterable[str] | None = None) -> PriceBook:
    """The prices and plans of these skus and owners, of all when not given, to be asked by event time."""
    return PriceBook(version_list(skus=skus), term_list(owner_ids=owner_ids))


def version_list(*, skus: Iterable[str] | None = None) -> list[Version]:
    """The price versions of these skus, of all when not given, as the price book takes them."""
    rows = PriceVersion.objects.all() if skus is None else PriceVersion.objects.filter(sku__in=list(skus))
    return [Version(row.id, row.plan_id, row.sku, row.valid_from, price_of(row)) for row in rows]


def term_list(*, owner_ids: Iterable[str] | None = None) -> list[Term]:
    """Which plans these owners, or all, are on from when on, as the price book takes it."""
    rows = (
        PlanTerm.objects.all() if owner_ids is None else PlanTerm.objects.filter(owner_id__in=list(owner_ids))
    )
    return [Term(row.owner_id, row.plan_id, row.valid_from, row.id) for row in rows]


def price_of(version: PriceVersion) -> Price:
    """A stored version as the numbers that rating takes."""
    return Price(
        version.input_picousd,
        version.cached_input_picousd,
        version.output_picousd,
        reasoning=version.reasoning_picousd,
        gpu_ms=version.gpu_ms_picousd,
        batch_percent=version.batch_percent,
    )


def price_list(*, sku: str | None = None) -> QuerySet[PriceVersion]:
    """Every price version, of one sku or of all, newest first."""
    rows = PriceVersion.objects.order_by("-valid_from", "-id")
    return rows if sku is None else rows.filter(sku=sku)


def price_map(*, price_ids: Iterable[str]) -> dict[str, PriceVersion]:
    """Price versions by their ids."""
    return {row.id: row for row in PriceVersion.objects.filter(id__in=list(price_ids))}


def books_sum() -> int:
    """The balances of all accounts together: zero in sound books. That entries sum to balances is for the proofs."""
    return int(LedgerAccount.objects.aggregate(total=Sum("balance_picousd"))["total"] or 0)


def ledger_sum() -> int:
    """All entries together: zero in sound books. It reads every one of them."""
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
