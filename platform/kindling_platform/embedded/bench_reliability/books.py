"""Whether the books hold what clients saw and engines logged, once everything is quiet again."""

import contextlib
import json
from collections.abc import Collection
from typing import Any

import psycopg
import redis
from psycopg.rows import dict_row

from kindling_billing import holds
from kindling_billing.money import PICO_PER_CENT
from kindling_engine.protocol.usage_log import UsageRecord, read_usage
from kindling_platform.embedded.bench_reliability.kills import Seen
from kindling_platform.embedded.bench_reliability.owners import strays_count
from kindling_platform.embedded.bench_reliability.payments import taken_cents, topups_wait
from kindling_platform.embedded.bench_reliability.target import Target
from kindling_platform.embedded.errors import EmbeddedError

# What was cut is booked from its last checkpoint a minute later, when the engine has logged nothing.
SETTLED_WITHIN_S = 150.0
# A wallet whose posting Valkey could not be told of hears it with the next one, or in the comparison of each minute.
TOLD_WITHIN_S = 75.0
# Each look reads the books and all logs.
LOOK_EVERY_S = 0.25
GRANT_TOKENS = 512
EVENTS = (
    "SELECT request_id::text, organisation_id, billable, prompt_tokens, completion_tokens, cost_picousd"
    " FROM usage_usageevent"
)
UNBOOKED = "SELECT count(*) AS n FROM usage_spooledusage WHERE booked_at IS NULL"
UNBALANCED = (
    "SELECT count(*) AS n FROM (SELECT transaction_id FROM billing_ledgerentry"
    " GROUP BY transaction_id HAVING sum(amount_picousd) <> 0) AS crooked"
)
TWICE = (
    "SELECT count(*) AS n FROM (SELECT source_id FROM billing_ledgertransaction WHERE source_type = 'usage'"
    " GROUP BY source_id HAVING count(*) > 1) AS twice"
)
# GPU hours by their rows, with what the ledger has of them taken off: nothing is left of either.
GPU_TIME_UNLIKE = (
    "SELECT count(*) AS n FROM (SELECT owner_id FROM ("
    " SELECT organisation_id AS owner_id, cost_picousd AS amount FROM deployments_gpuhour"
    " UNION ALL SELECT account.owner_id, entry.amount_picousd FROM billing_ledgerentry entry"
    " JOIN billing_ledgertransaction cause ON cause.id = entry.transaction_id AND cause.source_type = 'gpu_time'"
    " JOIN billing_ledgeraccount account ON account.id = entry.account_id AND account.kind = 'wallet'"
    ") AS moved GROUP BY owner_id HAVING sum(amount) <> 0) AS unlike"
)
BELOW_ZERO = "SELECT count(*) AS n FROM billing_ledgeraccount WHERE kind = 'wallet' AND balance_picousd < 0"
AT_PROVIDER = (
    "SELECT coalesce(sum(balance_picousd), 0) AS n FROM billing_ledgeraccount"
    " WHERE kind IN ('stripe_clearing', 'stripe_fees', 'stripe_balance')"
)
CHARGED = (
    "SELECT account.owner_id, account.balance_picousd AS balance, -coalesce(sum(entry.amount_picousd)"
    " FILTER (WHERE cause.source_type IN ('usage', 'usage_reversal')), 0) AS spent"
    " FROM billing_ledgeraccount account"
    " LEFT JOIN billing_ledgerentry entry ON entry.account_id = account.id"
    " LEFT JOIN billing_ledgertransaction cause ON cause.id = entry.transaction_id"
    " WHERE account.kind = 'wallet' GROUP BY account.id"
)


def violations_find(
    target: Target, seen: list[Seen], *, refused: Collection[str], minutes_above: int
) -> dict[str, int]:
    """How often each invariant is broken; 0 everywhere is the promise.

    I1: an answer that was seen complete is one event with its tokens. I2: what is billed is what the engine logged,
    or, where it died without a word, no more than a grant below. I3: transactions sum to zero and charge once, and
    rows, those of GPU hours too, are what wallets have paid. I4: no wallet is below zero. I5: the balance in Valkey is
    the ledger's. I6: what the stand-in for Stripe took in is what the ledger says it did. I7: nothing is held for what
    is booked. I8: no minute admitted more than limit and burst. I9: what was refused reached no engine and costs
    nothing. I10: every deployment is as it should be, and every process has an owner.
    """
    topups_wait(target)
    with psycopg.connect(target.database_url, row_factory=dict_row, autocommit=True) as books:
        target.wait(
            lambda: _is_settled(target, books), "Quiet books", seconds=SETTLED_WITHIN_S, every_s=LOOK_EVERY_S
        )
        events = {event["request_id"]: event for event in books.execute(EVENTS)}
        logged = _logged(target)
        return {
            "I1": sum(not _is_booked(one, events) for one in seen if one.complete),
            "I2": _count_unlike(events, logged),
            "I3": _count(books, UNBALANCED)
            + _count(books, TWICE)
            + _count(books, GPU_TIME_UNLIKE)
            + _count_unpaid(books, events),
            "I4": _count(books, BELOW_ZERO),
            "I6": int(_provider_gap(target, books) != 0),
            "I8": minutes_above,
            "I9": len(set(refused) & (events.keys() | logged.keys())),
            "I10": strays_count(target, books),
            **_valkey_quiet(target, books, events),
        }


def costs_of(target: Target, org_id: str) -> int:
    """What an organisation's requests have cost by the books, in pico-dollars."""
    with psycopg.connect(target.database_url, row_factory=dict_row) as books:
        rows = books.execute(EVENTS + " WHERE organisation_id = %s", [org_id]).fetchall()
    return sum(int(row["cost_picousd"]) for row in rows)


def billed_share(target: Target, request_ids: list[str]) -> float:
    """Of these requests, the share that is billed to the token as the engine logged it."""
    with psycopg.connect(target.database_url, row_factory=dict_row, autocommit=True) as books:

        def all_booked() -> bool:
            known = {event["request_id"] for event in books.execute(EVENTS)}
            return set(request_ids) <= known and _is_settled(target, books)

        with contextlib.suppress(EmbeddedError):
            target.wait(
                all_booked, "The booking of every stream", seconds=SETTLED_WITHIN_S, every_s=LOOK_EVERY_S
            )
        events = {event["request_id"]: event for event in books.execute(EVENTS)}
    logged = _logged(target)
    alike = sum(
        one in events
        and one in logged
        and events[one]["billable"]
        and events[one]["completion_tokens"] == logged[one].completion_tokens
        for one in request_ids
    )
    return alike / max(len(request_ids), 1)


def _provider_gap(target: Target, books: "psycopg.Connection[dict[str, Any]]") -> int:
    """Pico-dollars by which the stand-in's books and the ledger's accounts about it differ."""
    return taken_cents(target) * PICO_PER_CENT + _count(books, AT_PROVIDER)


def _is_settled(target: Target, books: "psycopg.Connection[dict[str, Any]]") -> bool:
    if _count(books, UNBOOKED):
        return False
    known = {event["request_id"] for event in books.execute(EVENTS)}
    return set(_logged(target)) <= known


def _is_booked(one: Seen, events: dict[str, dict[str, Any]]) -> bool:
    event = events.get(one.request_id)
    return event is not None and event["billable"] and event["completion_tokens"] == one.tokens


def _count_unlike(events: dict[str, dict[str, Any]], logged: dict[str, UsageRecord]) -> int:
    unlike = 0
    for request_id, event in events.items():
        record = logged.get(request_id)
        if not event["billable"]:
            unlike += event["cost_picousd"] != 0
        elif record is None:
            unlike += event["completion_tokens"] > GRANT_TOKENS
        else:
            unlike += (event["prompt_tokens"], event["completion_tokens"]) != (
                record.prompt_tokens,
                record.completion_tokens,
            )
    return unlike + len(logged.keys() - events.keys())


def _count_unpaid(books: "psycopg.Connection[dict[str, Any]]", events: dict[str, dict[str, Any]]) -> int:
    rows: dict[str, int] = {}
    for event in events.values():
        rows[event["organisation_id"]] = rows.get(event["organisation_id"], 0) + event["cost_picousd"]
    paid = {row["owner_id"]: int(row["spent"]) for row in books.execute(CHARGED)}
    return sum(paid.get(owner, 0) != cost for owner, cost in rows.items())


def _valkey_quiet(
    target: Target, books: "psycopg.Connection[dict[str, Any]]", events: dict[str, dict[str, Any]]
) -> dict[str, int]:
    """I5 and I7, which come true a moment after the last posting, or with the next comparison of the wallets."""
    with contextlib.suppress(EmbeddedError):
        target.wait(
            lambda: not any(_valkey(target, books, events).values()),
            "A true Valkey",
            seconds=TOLD_WITHIN_S,
            every_s=LOOK_EVERY_S,
        )
    return _valkey(target, books, events)


def _valkey(
    target: Target, books: "psycopg.Connection[dict[str, Any]]", events: dict[str, dict[str, Any]]
) -> dict[str, int]:
    client: Any = redis.Redis.from_url(target.redis_url, decode_responses=True)
    try:
        behind = held = 0
        for row in books.execute(CHARGED).fetchall():
            kept = client.hget(holds.wallet_key(row["owner_id"]), "b")
            behind += kept is not None and int(kept) != holds.balance_nano(int(row["balance"]))
            held += len(events.keys() & client.hkeys(holds.holds_key(row["owner_id"])))
        return {"I5": behind, "I7": held}
    finally:
        client.close()


def _logged(target: Target) -> dict[str, UsageRecord]:
    found: dict[str, UsageRecord] = {}
    for path in target.usage_logs():
        after = 0
        while True:
            _, records, following = read_usage(path, after, 1000)
            found |= {record.request_id: record for record in records if json.loads(record.context or "{}")}
            if not records or following == after:
                break
            after = following
    return found


def _count(books: "psycopg.Connection[dict[str, Any]]", query: str) -> int:
    row = books.execute(query).fetchone()
    return int(row["n"]) if row else 0
