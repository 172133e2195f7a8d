"""Double-entry postings: each cause posts once, and each posting sums to zero.

Every writer takes its locks in one order (accounts by id, then causes by name), so that writers wait for
each other and never deadlock. Rows go to the database as one JSON text, which is written and read several times as fast
as arrays; its numbers are digits, so none is rounded.
"""

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from django.db import connection, transaction

from kindling_billing.errors import BillingError
from kindling_billing.models import LedgerAccount, LedgerTransaction, account_id, transaction_ids

AccountKey = tuple[str, str]
_KINDS = frozenset(LedgerAccount.Kind.values)


@dataclass(frozen=True, slots=True)
class Posting:
    """One movement of money; entries are (account kind, owner id, pico-dollars) and sum to zero."""

    source_type: str
    source_id: str
    entries: Sequence[tuple[str, str, int]]
    memo: str = ""
    data: dict[str, Any] = field(default_factory=dict)


def transaction_post(
    *,
    source_type: str,
    source_id: str,
    entries: Sequence[tuple[str, str, int]],
    memo: str,
    data: dict[str, Any] | None = None,
) -> LedgerTransaction | None:
    """Post once per cause; None when this cause has posted before.

    Raises:
        BillingError: `unbalanced`, `unknown_account`.
    """
    posting = Posting(source_type, source_id, entries, memo, data or {})
    posted = postings_post([posting])
    if not posted:
        return None
    return LedgerTransaction.objects.get(source_type=source_type, source_id=source_id)


def postings_post(postings: Sequence[Posting]) -> set[tuple[str, str]]:
    """Post many at once; gives the causes (type, id) that had not posted before.

    Raises:
        BillingError: `unbalanced`, `unknown_account`; nothing is posted then.
    """
    unique = {(posting.source_type, posting.source_id): posting for posting in postings}
    for posting in unique.values():
        _check(posting)
    if not unique:
        return set()
    with transaction.atomic():
        accounts = accounts_lock({(kind, owner) for p in unique.values() for kind, owner, _ in p.entries})
        inserted = _insert_transactions([unique[cause] for cause in sorted(unique)])
        _insert_entries(inserted, unique, accounts)
    return set(inserted)


def accounts_lock(keys: set[AccountKey]) -> dict[AccountKey, str]:
    """Lock accounts, made if need be, in the one order that all writers keep; gives their ids."""
    ordered = sorted(keys)
    kinds, owners = [kind for kind, _ in ordered], [owner for _, owner in ordered]
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO billing_ledgeraccount (id, kind, owner_id, balance_picousd, version)"
            " SELECT id, kind, owner, 0, 0 FROM unnest(%s::text[], %s::text[], %s::text[]) AS new(id, kind, owner)"
            " WHERE NOT EXISTS (SELECT 1 FROM billing_ledgeraccount AS old"
            " WHERE old.kind = new.kind AND old.owner_id = new.owner)"
            " ON CONFLICT (kind, owner_id) DO NOTHING",
            [[account_id() for _ in ordered], kinds, owners],
        )
        cursor.execute(
            "SELECT kind, owner_id, id FROM billing_ledgeraccount WHERE (kind, owner_id) IN"
            " (SELECT * FROM unnest(%s::text[], %s::text[])) ORDER BY id FOR UPDATE",
            [kinds, owners],
        )
        return {(kind, owner): id_ for kind, owner, id_ in cursor.fetchall()}


def _check(posting: Posting) -> None:
    if sum(amount for _, _, amount in posting.entries) != 0:
        raise BillingError("unbalanced", f"The entries of {posting.source_type} do not sum to zero.")
    unknown = {kind for kind, _, _ in posting.entries} - _KINDS
    if unknown:
        raise BillingError("unknown_account", f"There is no account of kind {min(unknown)!r}.")


def _insert_transactions(postings: list[Posting]) -> dict[tuple[str, str], str]:
    rows = [
        {"i": id_, "t": one.source_type, "s": one.source_id, "m": one.memo[:200], "d": one.data}
        for id_, one in zip(transaction_ids(len(postings)), postings, strict=True)
    ]
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO billing_ledgertransaction (id, source_type, source_id, memo, data, posted_at)"
            " SELECT i, t, s, m, d, clock_timestamp()"
            " FROM json_to_recordset(%s::json) AS new(i text, t text, s text, m text, d jsonb)"
            " ON CONFLICT (source_type, source_id) DO NOTHING RETURNING source_type, source_id, id",
            [json.dumps(rows)],
        )
        return {(type_, source): id_ for type_, source, id_ in cursor.fetchall()}


def _insert_entries(
    inserted: dict[tuple[str, str], str],
    postings: dict[tuple[str, str], Posting],
    accounts: dict[AccountKey, str],
) -> None:
    rows = [
        (id_, accounts[kind, owner], amount)
        for cause, id_ in inserted.items()
        for kind, owner, amount in postings[cause].entries
    ]
    if not rows:
        return
    moved: dict[str, int] = defaultdict(int)
    for _, account, amount in rows:
        moved[account] += amount
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO billing_ledgerentry (transaction_id, account_id, amount_picousd)"
            " SELECT * FROM json_to_recordset(%s::json) AS new(t text, a text, p numeric)",
            [json.dumps([{"t": id_, "a": account, "p": amount} for id_, account, amount in rows])],
        )
        cursor.execute(
            "UPDATE billing_ledgeraccount AS account"
            " SET balance_picousd = balance_picousd + moved.amount, version = version + 1"
            " FROM unnest(%s::text[], %s::numeric[]) AS moved(id, amount) WHERE account.id = moved.id",
            [list(moved), list(moved.values())],
        )
