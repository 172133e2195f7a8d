"""Reads a stack's books straight from its database and its engine's logs, to compare them."""

import json
from collections import Counter
from dataclasses import dataclass
from typing import Any

import psycopg

from kindling_engine.protocol.usage_log import UsageRecord, read_usage
from kindling_stack import Stack


@dataclass(slots=True, frozen=True)
class Books:
    """What one organisation used, as the platform booked it and as the engine logged it.

    Events that are free because we failed are left out where the engine has not lived to log them.
    """

    events: dict[str, dict[str, Any]]
    logged: dict[str, UsageRecord]
    balance_picousd: int
    granted_picousd: int
    all_entries_picousd: int
    unbalanced_transactions: int
    doubled_sources: int

    @property
    def cost_picousd(self) -> int:
        return sum(int(event["cost_picousd"]) for event in self.events.values())


def engine_log(stack: Stack) -> list[UsageRecord]:
    """Every record of every replica's log, doubles included."""
    found: list[UsageRecord] = []
    for path in sorted((stack.home / "usage").glob("*.log")):
        after = 0
        while True:
            _, records, following = read_usage(path, after, 500)
            found += records
            if not records or following == after:
                break
            after = following
    return found


def read_books_if_open(stack: Stack, org_id: str) -> Books | None:
    """The books, or None while the database is starting."""
    try:
        return read_books(stack, org_id)
    except psycopg.OperationalError:
        return None


def read_books(stack: Stack, org_id: str) -> Books:
    with psycopg.connect(stack.state["database_url"], row_factory=psycopg.rows.dict_row) as db:
        events = db.execute("SELECT * FROM usage_usageevent WHERE organisation_id = %s", [org_id]).fetchall()
        wallet = db.execute(
            "SELECT balance_picousd, id FROM billing_ledgeraccount WHERE kind = 'wallet' AND owner_id = %s",
            [org_id],
        ).fetchone()
        granted = db.execute(
            "SELECT coalesce(sum(entry.amount_picousd), 0) AS total FROM billing_ledgerentry entry"
            " JOIN billing_ledgertransaction cause ON cause.id = entry.transaction_id"
            " WHERE entry.account_id = %s AND cause.source_type NOT IN ('usage', 'usage_reversal')",
            [wallet["id"] if wallet else ""],
        ).fetchone()
        zero = db.execute(
            "SELECT coalesce(sum(amount_picousd), 0) AS total FROM billing_ledgerentry"
        ).fetchone()
        unbalanced = db.execute(
            "SELECT count(*) AS n FROM (SELECT transaction_id FROM billing_ledgerentry"
            " GROUP BY transaction_id HAVING sum(amount_picousd) <> 0) AS crooked"
        ).fetchone()
        doubled = db.execute(
            "SELECT count(*) AS n FROM (SELECT source_id FROM billing_ledgertransaction"
            " WHERE source_type = 'usage' GROUP BY source_id HAVING count(*) > 1) AS twice"
        ).fetchone()
    records = [
        record for record in engine_log(stack) if json.loads(record.context or "{}").get("org") == org_id
    ]
    logged = {record.request_id: record for record in records}
    assert max(Counter(record.request_id for record in records).values(), default=1) == 1
    assert zero is not None and unbalanced is not None and doubled is not None and granted is not None
    return Books(
        events={
            str(event["request_id"]): event
            for event in events
            if event["billable"] or str(event["request_id"]) in logged
        },
        logged=logged,
        balance_picousd=int(wallet["balance_picousd"]) if wallet else 0,
        granted_picousd=int(granted["total"]),
        all_entries_picousd=int(zero["total"]),
        unbalanced_transactions=int(unbalanced["n"]),
        doubled_sources=int(doubled["n"]),
    )


def assert_books_agree(books: Books) -> None:
    """One event per logged request with the engine's own counts; the money follows to the unit."""
    assert set(books.events) == set(books.logged)
    for request_id, record in books.logged.items():
        event = books.events[request_id]
        if not event["billable"]:  # it failed on our side, whatever the engine had made
            assert event["cost_picousd"] == 0, request_id
            continue
        assert event["completion_tokens"] == record.completion_tokens, request_id
        assert event["prompt_tokens"] == record.prompt_tokens, request_id
    assert books.all_entries_picousd == 0
    assert books.unbalanced_transactions == 0
    assert books.doubled_sources == 0
    assert books.balance_picousd == books.granted_picousd - books.cost_picousd
