"""Keeps the copies of balances in Valkey true: told after each posting, compared with the ledger every minute.

Valkey is never a source of truth. A message that got lost leaves a balance that is too high by what was
posted, while the request's hold still covers it; the comparison puts both right.
"""

import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from itertools import islice
from typing import Any
from uuid import UUID

import redis
import structlog

from kindling_billing import holds
from kindling_billing.selectors import Balance, spendable_map
from kindling_platform.usage.comparisons import COMPARED_AT, DRIFT_KEY
from kindling_platform.usage.models import UsageEvent
from kindling_workers.budgets import Budgets, Rebuilt

log = structlog.get_logger("kindling.workers")
BATCH = 500
WALLETS = holds.wallet_key("*")
PREFIX = holds.wallet_key("")


@dataclass(frozen=True, slots=True)
class Refreshed:
    """What a comparison found: wallets that were behind the ledger, wallets that were wrong, and by how much.

    What a wallet has available is its balance less the sum of its holds: `drift_nano` is how far the balances were from
    the ledger's, `holds_drift_nano` how far the sums were from the holds.
    """

    wallets: int = 0
    behind: int = 0
    drifted: int = 0
    drift_nano: int = 0
    holds_drift_nano: int = 0
    holds_dropped: int = 0
    budgets: int = 0
    budgets_drifted: int = 0
    budget_drift_nano: int = 0


class Wallets:
    """The wallets in one Valkey. Errors of every method: `redis.RedisError`."""

    def __init__(self, client: "redis.Redis") -> None:
        self._client = client
        self._posted = client.register_script(holds.POSTED)
        self._seed = client.register_script(holds.SEED)
        self._budgets = Budgets(client)

    def posted(self, *, owner_id: str, balance: Balance, request_ids: list[str]) -> None:
        """Set the balance that a posting left and drop the holds of the posted requests; repeatable."""
        args = holds.posted_args(
            version=balance.version, balance_picousd=balance.picousd, request_ids=request_ids
        )
        self._posted(keys=holds.script_keys(owner_id), args=args)
        self._budgets.posted(owner_id=owner_id, version=balance.version, request_ids=request_ids)

    def refresh(self) -> Refreshed:
        """Compare every wallet in Valkey with the ledger and put it right."""
        total = Refreshed()
        for owner_ids in _batches(self._owner_ids()):
            total = self._refresh_batch(owner_ids, total)
        say = log.warning if total.drifted or total.budgets_drifted else log.info
        say("wallets.refresh", **asdict(total))
        told = asdict(total) | {COMPARED_AT: int(time.time())}
        self._client.hset(DRIFT_KEY, mapping={name: str(value) for name, value in told.items()})
        return total

    def _refresh_batch(self, owner_ids: list[str], total: Refreshed) -> Refreshed:
        # The posted requests first, the balances after: a balance then holds at least those postings.
        seen = {owner_id: self._look(owner_id) for owner_id in owner_ids}
        held = [request_id for look in seen.values() for request_id in look.request_ids]
        posted = _posted_among(held)
        balances = spendable_map(owner_ids=owner_ids)
        rebuilt = self._rebuild(
            balances, {owner_id: look.request_ids for owner_id, look in seen.items()}, posted
        )
        total = replace(
            total,
            budgets=total.budgets + rebuilt.scopes,
            budgets_drifted=total.budgets_drifted + rebuilt.drifted,
            budget_drift_nano=total.budget_drift_nano + rebuilt.drift_nano,
        )
        for owner_id, look in seen.items():
            balance = balances.get(owner_id)
            if balance is None:
                continue
            drift = 0
            if look.version == balance.version:
                drift = abs(look.balance_nano - holds.balance_nano(balance.picousd))
            holds_drift = abs(look.held_nano - look.holds_nano)
            done = [request_id for request_id in look.request_ids if request_id in posted]
            args = holds.posted_args(
                version=balance.version, balance_picousd=balance.picousd, request_ids=done
            )
            self._posted(keys=holds.script_keys(owner_id), args=args)
            self._recount(owner_id, balance)
            total = replace(
                total,
                wallets=total.wallets + 1,
                behind=total.behind + (look.version < balance.version),
                drifted=total.drifted + bool(drift or holds_drift),
                drift_nano=total.drift_nano + drift,
                holds_drift_nano=total.holds_drift_nano + holds_drift,
                holds_dropped=total.holds_dropped + len(done),
            )
        return total

    def _rebuild(self, balances: dict[str, Balance], held: dict[str, list[str]], posted: set[str]) -> Rebuilt:
        versions = {owner_id: balance.version for owner_id, balance in balances.items()}
        done = {owner_id: [one for one in held[owner_id] if one in posted] for owner_id in versions}
        return self._budgets.rebuild(versions, done)

    def _recount(self, owner_id: str, balance: Balance) -> None:
        now_ms = int(time.time() * 1000)
        args = holds.seed_args(version=balance.version, balance_picousd=balance.picousd, now_ms=now_ms)
        self._seed(keys=holds.script_keys(owner_id), args=args)

    def _look(self, owner_id: str) -> "_Look":
        wallet_key, holds_key = holds.script_keys(owner_id)
        # One moment: between the two a request could end, and the sum would not be that of these holds.
        pipe = self._client.pipeline(transaction=True)
        pipe.hmget(wallet_key, ["b", "v", "h"])
        pipe.hgetall(holds_key)
        (balance, version, held), rows = pipe.execute()
        holds_nano = sum(int(value.partition(":")[0]) for value in rows.values())
        return _Look(
            balance_nano=int(balance or 0),
            version=int(version or -1),
            # A sum that is not there yet cannot be wrong.
            held_nano=holds_nano if held is None else int(held),
            holds_nano=holds_nano,
            request_ids=list(rows),
        )

    def _owner_ids(self) -> Iterator[str]:
        keys: Iterable[Any] = self._client.scan_iter(match=WALLETS, count=BATCH)
        return (str(key).removeprefix(PREFIX) for key in keys)


@dataclass(frozen=True, slots=True)
class _Look:
    balance_nano: int
    version: int
    held_nano: int
    holds_nano: int
    request_ids: list[str]


def _posted_among(request_ids: list[str]) -> set[str]:
    """Those that the books know; what is no request id of ours is left to expire."""
    wellformed = []
    for request_id in request_ids:
        with suppress(ValueError):
            wellformed.append(UUID(request_id))
    known = UsageEvent.objects.filter(request_id__in=wellformed).values_list("request_id", flat=True)
    return {str(request_id) for request_id in known}


def _batches(items: Iterator[str]) -> Iterator[list[str]]:
    while batch := list(islice(items, BATCH)):
        yield batch
