"""The money side of admission: holds in Valkey, and in this process alone while Valkey is gone."""

import asyncio
import time
from collections import defaultdict
from collections.abc import Coroutine
from dataclasses import dataclass
from time import monotonic
from typing import Any

from kindling_billing import holds
from kindling_billing.holds import HELD, NEVER_SEEN, REFUSED, HoldReply
from kindling_platform.gateway.access_log import Log
from kindling_platform.gateway.caches import LoadFailedError, TtlCache
from kindling_platform.gateway.database import BALANCE_OF_ORG, Database
from kindling_platform.gateway.errors import GatewayError, books_unavailable
from kindling_platform.gateway.valkey import Valkey, ValkeyUnavailableError

LEASE_MS = 300_000
RENEW_EVERY_S = 100.0
POSTING_MS = 120_000
POSTING_LOCAL_S = 3.0


@dataclass(frozen=True, slots=True)
class Balance:
    """A wallet as the ledger has it."""

    picousd: int
    version: int


class Wallets:
    """Holds by owner and request. `settle` and `release` do not wait, so that they outlive their request."""

    def __init__(
        self,
        database: Database,
        valkey: Valkey,
        log: Log,
        *,
        lease_ms: int = LEASE_MS,
        renew_every_s: float = RENEW_EVERY_S,
    ) -> None:
        self._lease_ms = lease_ms
        self._renew_every_s = renew_every_s
        self._log = log
        self._database = database
        self._valkey = valkey
        self._balances: TtlCache[str, Balance] = TtlCache(self._load)
        self._live: defaultdict[str, dict[str, int]] = defaultdict(dict)
        self._unposted: defaultdict[str, dict[str, tuple[int, float]]] = defaultdict(dict)
        self._tasks: set[asyncio.Task[object]] = set()
        self._renewer: asyncio.Task[None] | None = None

    def open(self) -> None:
        """Start renewing the leases of requests that run long."""
        self._renewer = asyncio.create_task(self._renew())

    async def close(self) -> None:
        """Let what is being settled finish, for at most a second."""
        if self._renewer:
            self._renewer.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=1)

    async def acquire(self, owner_id: str, request_id: str, total_nano: int) -> HoldReply:
        """Hold `total_nano` for a request, in place of what it held; the reply says what is available."""
        reply = await self._acquire(owner_id, request_id, total_nano)
        if reply.state == HELD:
            self._live[owner_id][request_id] = total_nano
        return reply

    def settle(self, owner_id: str, request_id: str, actual_nano: int | None) -> None:
        """A request has ended: keep its actual cost until the rater posts it; None keeps all that it held."""
        held = self._forget(owner_id, request_id)
        self._spawn(self._settle(owner_id, request_id, held if actual_nano is None else actual_nano))

    def release(self, owner_id: str, request_id: str) -> None:
        """A request has ended and costs nothing."""
        self._forget(owner_id, request_id)
        self._spawn(self._run(owner_id, "release", holds.release_args(request_id=request_id)))

    async def _acquire(self, owner_id: str, request_id: str, total_nano: int) -> HoldReply:
        try:
            reply = await self._ask(owner_id, request_id, total_nano)
            # Never seen, or refused: money may have come in that only the ledger knows of yet.
            if reply.state != HELD and await self._seed(owner_id, needed=reply.state == NEVER_SEEN):
                reply = await self._ask(owner_id, request_id, total_nano)
            if reply.state != NEVER_SEEN:
                return reply
        except ValkeyUnavailableError:
            pass
        return await self._acquire_locally(owner_id, request_id, total_nano)

    async def _ask(self, owner_id: str, request_id: str, total_nano: int) -> HoldReply:
        args = holds.acquire_args(
            request_id=request_id, total_nano=total_nano, now_ms=_now_ms(), lease_ms=self._lease_ms
        )
        return holds.acquire_reply(await self._valkey.run("acquire", holds.script_keys(owner_id), args))

    async def _seed(self, owner_id: str, *, needed: bool) -> bool:
        try:
            balance = (await self._balance(owner_id))[0]
        except GatewayError:
            if needed:
                raise
            return False
        args = holds.seed_args(version=balance.version, balance_picousd=balance.picousd, now_ms=_now_ms())
        await self._valkey.run("seed", holds.script_keys(owner_id), args)
        return True

    async def _acquire_locally(self, owner_id: str, request_id: str, total_nano: int) -> HoldReply:
        # Without Valkey each process sees its own holds only: the balance may be overspent by what the
        # other processes have in flight, and by no more.
        balance, loaded_at = await self._balance(owner_id)
        unposted = self._unposted.get(owner_id, {})
        for settled_id, (_, posted_by) in list(unposted.items()):
            if posted_by < loaded_at:
                del unposted[settled_id]
        if not unposted:
            self._unposted.pop(owner_id, None)
        live = self._live.get(owner_id, {})
        others = sum(amount for held_id, amount in live.items() if held_id != request_id)
        spent = sum(amount for amount, _ in unposted.values())
        available = holds.balance_nano(balance.picousd) - others - spent
        mine = live.get(request_id, 0)
        if total_nano > available and total_nano > mine:
            return HoldReply(REFUSED, available)
        return HoldReply(HELD, available - total_nano)

    async def _balance(self, owner_id: str) -> tuple[Balance, float]:
        try:
            entry = await self._balances.entry(owner_id)
        except LoadFailedError as error:
            raise books_unavailable() from error
        return entry.value, entry.loaded_at

    async def _load(self, owner_id: str) -> Balance:
        row = await self._database.row(BALANCE_OF_ORG, [owner_id])
        return Balance(int(row["balance_picousd"]), int(row["version"])) if row else Balance(0, 0)

    def _forget(self, owner_id: str, request_id: str) -> int:
        live = self._live.get(owner_id, {})
        held = live.pop(request_id, 0)
        if not live:
            self._live.pop(owner_id, None)
        return held

    async def _settle(self, owner_id: str, request_id: str, nano: int) -> None:
        expires_ms = _now_ms() + POSTING_MS
        args = holds.settle_args(request_id=request_id, actual_nano=nano, expires_ms=expires_ms)
        if not await self._run(owner_id, "settle", args):
            self._unposted[owner_id][request_id] = (nano, monotonic() + POSTING_LOCAL_S)

    async def _run(self, owner_id: str, script: str, args: list[str]) -> bool:
        try:
            await self._valkey.run(script, holds.script_keys(owner_id), args)
        except ValkeyUnavailableError:
            # The rater removes the hold when it posts the request; failing that its lease ends.
            self._log.debug("hold_not_reached", script=script, org=owner_id, request_id=args[0])
            return False
        return True

    def _spawn(self, work: Coroutine[Any, Any, object]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(self._renew_every_s)
            expires_ms = _now_ms() + self._lease_ms
            for owner_id, live in list(self._live.items()):
                for request_id in list(live):
                    args = holds.renew_args(request_id=request_id, expires_ms=expires_ms)
                    await self._run(owner_id, "renew", args)


def _now_ms() -> int:
    return int(time.time() * 1000)
