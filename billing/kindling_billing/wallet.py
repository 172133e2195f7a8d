"""Moves money through wallets: one posting, and what it does to the portions of credit that the wallet is made of.

The open portions of a wallet sum to its balance while that is above zero. So nothing is recorded per request: after
any posting the portions are brought to the balance, burnt in one order and given back in the reverse. The wallets'
rows are locked meanwhile, which `postings_post` sees to.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime

from django.db import connection, transaction

from kindling_billing.ledger import Posting, postings_post
from kindling_billing.models import CreditGrant, LedgerAccount, utc_now

WALLET = "wallet"


def wallet_post(posting: Posting, *, grant: CreditGrant | None = None, spend_first: str = "") -> bool:
    """Post once per cause and settle the portions; False when this cause has posted before.

    `grant` is the portion that the money becomes; `spend_first` the id of a portion that money going out is taken from
    before all others.
    """
    return bool(wallets_post([posting], grant=grant, spend_first=spend_first))


def wallets_post(
    postings: Sequence[Posting], *, grant: CreditGrant | None = None, spend_first: str = ""
) -> set[tuple[str, str]]:
    """Post many and settle the portions of every wallet that they move; gives the causes that were new."""
    with transaction.atomic():
        posted = postings_post(postings)
        if not posted:
            return posted
        if grant is not None:
            grant.save(force_insert=True)
        moved = {
            owner
            for posting in postings
            if (posting.source_type, posting.source_id) in posted
            for kind, owner, amount in posting.entries
            if kind == WALLET and amount
        }
        portions_settle(moved, fill_first=grant.id if grant else "", spend_first=spend_first)
    return posted


def portions_settle(
    owner_ids: Collection[str], *, fill_first: str = "", spend_first: str = "", now: datetime | None = None
) -> None:
    """Bring the portions of wallets to their balances; the wallets' rows must be locked."""
    if not owner_ids:
        return
    now = now or utc_now()
    balances = _balances(owner_ids)
    open_now = _portions_open(owner_ids)
    changed: dict[str, int] = {}
    for owner_id in sorted(owner_ids):
        portions = open_now.get(owner_id, [])
        difference = max(0, balances.get(owner_id, 0)) - sum(int(p.remaining_picousd) for p in portions)
        if difference < 0:
            changed |= _burn(portions, -difference, spend_first)
        elif difference > 0:
            changed |= _give_back(owner_id, difference, fill_first, now)
    _store(changed)


def _balances(owner_ids: Iterable[str]) -> Mapping[str, int]:
    rows = LedgerAccount.objects.filter(kind=WALLET, owner_id__in=list(owner_ids))
    return {owner: int(balance) for owner, balance in rows.values_list("owner_id", "balance_picousd")}


def _portions_open(owner_ids: Iterable[str]) -> dict[str, list[CreditGrant]]:
    """What is left of every portion, in the order in which it burns: soonest expiry first, given before bought."""
    rows = CreditGrant.objects.filter(owner_id__in=list(owner_ids), remaining_picousd__gt=0)
    by_owner: dict[str, list[CreditGrant]] = defaultdict(list)
    for row in sorted(rows.select_for_update(), key=_burn_order):
        by_owner[row.owner_id].append(row)
    return by_owner


def _burn_order(portion: CreditGrant) -> tuple[bool, float, bool, datetime, str]:
    expires = portion.expires_at.timestamp() if portion.expires_at else 0.0
    given = portion.kind == CreditGrant.Kind.PROMO
    return portion.expires_at is None, expires, not given, portion.created_at, portion.id


def _burn(portions: list[CreditGrant], amount: int, first: str) -> dict[str, int]:
    changed: dict[str, int] = {}
    for portion in sorted(portions, key=lambda portion: portion.id != first):
        taken = min(amount, int(portion.remaining_picousd))
        changed[portion.id] = int(portion.remaining_picousd) - taken
        amount -= taken
        if amount == 0:
            break
    return changed


def _give_back(owner_id: str, amount: int, first: str, now: datetime) -> dict[str, int]:
    """Fill what was burnt last, never what has expired; what fits nowhere becomes a portion of its own."""
    rows = CreditGrant.objects.filter(owner_id=owner_id, expired_at=None).select_for_update()
    alive = [row for row in rows if row.expires_at is None or row.expires_at > now]
    changed: dict[str, int] = {}
    newest_first = sorted(alive, key=_burn_order, reverse=True)
    for portion in sorted(newest_first, key=lambda portion: portion.id != first):
        room = int(portion.amount_picousd) - int(portion.remaining_picousd)
        filled = min(amount, room)
        if filled:
            changed[portion.id] = int(portion.remaining_picousd) + filled
            amount -= filled
        if amount == 0:
            return changed
    rest = CreditGrant(
        owner_id=owner_id,
        kind=CreditGrant.Kind.RETURNED,
        amount_picousd=amount,
        remaining_picousd=amount,
        source_type="returned",
        memo="Money given back",
    )
    rest.source_id = rest.id
    rest.save(force_insert=True)
    return changed


def _store(changed: Mapping[str, int]) -> None:
    if not changed:
        return
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE billing_creditgrant AS portion SET remaining_picousd = new.remaining"
            " FROM unnest(%s::text[], %s::numeric[]) AS new(id, remaining) WHERE portion.id = new.id",
            [list(changed), list(changed.values())],
        )
