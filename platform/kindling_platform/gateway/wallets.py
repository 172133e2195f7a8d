"""The money side of admission: holds in Valkey, and in this process alone while Valkey is gone."""

import asyncio
import time
from collections import defaultdict
from dataclasses import dataclass
from time import monotonic

from kindling_billing import holds
from kindling_billing.holds import HELD, NEVER_SEEN, REFUSED, HoldReply
from kindling_platform.gateway.access_log import Log
from kindling_platform.gateway.caches import LoadFailedError, TtlCache
from kindling_platform.gateway.database import BALANCE_OF_ORG, Database
from kindling_platform.gateway.errors import books_unavailable
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

    def __init__(self, database: Database, valkey: Valkey, log: Log) -> None:
        self._log = log
        self._database = database
        self._valkey = valkey
        self._balances: TtlCache[str, Balance] = TtlCache(self._load)
        self._live: defaultdict[str, dict[str, int]] = defaultdict(dict)
        self._unposted: defaultdict[str, dict[str, tuple[int, float]]] = defaultdict(dict)
        self._tasks: set[asyncio.Task[None]] = set()
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
        amount = held if actual_nano is None else actual_nano
        if self._valkey.up:
            args = holds.settle_args(
                request_id=request_id, actual_nano=amount, expires_ms=_now_ms() + POSTING_MS
            )
            self._spawn("settle", owner_id, args)
        else:
            self._unposted[owner_id][request_id] = (amount, monotonic() + POSTING_LOCAL_S)

    def release(self, owner_id: str, request_id: str) -> None:
        """A request has ended and costs nothing."""
        self._forget(owner_id, request_id)
        if self._valkey.up:
            self._spawn("release", owner_id, holds.release_args(request_id=request_id))

    async def _acquire(self, owner_id: str, request_id: str, total_nano: int) -> HoldReply:
        try:
            reply = await self._ask(owner_id, request_id, total_nano)
            if reply.state == NEVER_SEEN:
                await self._seed(owner_id)
                reply = await self._ask(owner_id, request_id, total_nano)
            if reply.state != NEVER_SEEN:
                return reply
        except ValkeyUnavailableError:
            pass
        return await self._acquire_locally(owner_id, request_id, total_nano)

    async def _ask(self, owner_id: str, request_id: str, total_nano: int) -> HoldReply:
        args = holds.acquire_args(
            request_id=request_id, total_nano=total_nano, now_ms=_now_ms(), lease_ms=LEASE_MS
        )
        return holds.acquire_reply(await self._valkey.run("acquire", holds.script_keys(owner_id), args))

    async def _seed(self, owner_id: str) -> None:
        balance = (await self._balance(owner_id))[0]
        args = holds.seed_args(version=balance.version, balance_picousd=balance.picousd, now_ms=_now_ms())
        await self._valkey.run("seed", holds.script_keys(owner_id), args)

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

    def _spawn(self, script: str, owner_id: str, args: list[str]) -> None:
        task = asyncio.create_task(self._run_quietly(script, owner_id, args))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run_quietly(self, script: str, owner_id: str, args: list[str]) -> None:
        try:
            await self._valkey.run(script, holds.script_keys(owner_id), args)
        except ValkeyUnavailableError:
            # The rater removes the hold when it posts the request; failing that its lease ends.
            self._log.warning("hold_not_closed", script=script, org=owner_id, request_id=args[0])

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(RENEW_EVERY_S)
            expires_ms = _now_ms() + LEASE_MS
            for owner_id, live in list(self._live.items()):
                for request_id in list(live):
                    args = holds.renew_args(request_id=request_id, expires_ms=expires_ms)
                    await self._run_quietly("renew", owner_id, args)


def _now_ms() -> int:
    return int(time.time() * 1000)
