"""Admission and settlement in Valkey, and in this process alone while Valkey is away or has been emptied."""

import asyncio
import os
import secrets
import time
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from time import monotonic
from typing import Any

from kindling_billing import admission, budgets, holds
from kindling_billing.admission import BUDGET, HELD, MONEY, UNSEEN, Claim, Payer, Verdict
from kindling_billing.admission_scripts import LOOK_KEYS, rations_key
from kindling_billing.budgets import Spent
from kindling_billing.limits import Scope
from kindling_platform.gateway.access_log import Log
from kindling_platform.gateway.caches import LoadFailedError, TtlCache
from kindling_platform.gateway.database import BALANCE_OF_ORG, SPENT_OF_SCOPE, Database
from kindling_platform.gateway.errors import GatewayError, books_unavailable
from kindling_platform.gateway.late_holds import LateHolds
from kindling_platform.gateway.limits.local import LocalLimits
from kindling_platform.gateway.limits.refusals import limits_unavailable
from kindling_platform.gateway.settlements import Ended, Settlements
from kindling_platform.gateway.valkey import Valkey, ValkeyUnavailableError

LEASE_MS = 300_000
RENEW_EVERY_S = 100.0
LOOK_EVERY_S = 1.0
RATION_NANO = 1_000_000_000
CATCH_UP_S = 0.1
FREE = -1


@dataclass(frozen=True, slots=True)
class Balance:
    """A wallet as the ledger has it."""

    picousd: int
    version: int


@dataclass(slots=True)
class Live:
    """A running request: what it may spend, of which Valkey knows `reached_nano`."""

    payer: Payer
    nano: int
    reached_nano: int


class Wallets:
    """Admits and settles. What ends a request does not wait, so that it outlives the request."""

    def __init__(
        self,
        database: Database,
        valkey: Valkey,
        log: Log,
        *,
        lease_ms: int = LEASE_MS,
        renew_every_s: float = RENEW_EVERY_S,
        look_every_s: float = LOOK_EVERY_S,
        ration_nano: int = RATION_NANO,
    ) -> None:
        self._lease_ms = lease_ms
        self._renew_every_s = renew_every_s
        self._look_every_s = look_every_s
        self._ration_nano = ration_nano
        self._log = log
        self._database = database
        self._valkey = valkey
        self._process = f"{os.getpid()}-{secrets.token_hex(4)}"
        self._balances: TtlCache[str, Balance] = TtlCache(self._load_balance)
        self._spent: TtlCache[tuple[str, str, str, str], Spent] = TtlCache(self._load_spent)
        self._local = LocalLimits()
        self._live: dict[str, Live] = {}
        late_holds = LateHolds(database, valkey, load_spent=self._load_spent)
        self._settlements = Settlements(
            valkey,
            log,
            may_tell=self._is_current,
            told_late=lambda ended: self._spawn(late_holds.look(ended)),
        )
        self._tasks: set[asyncio.Task[object]] = set()
        self._keepers: list[asyncio.Task[None]] = []
        self._restored = 0  # the connection over which Valkey was last told all it has missed
        self._restoring: asyncio.Task[object] | None = None
        self._mark = ""

    def open(self) -> None:
        """Start renewing the leases of requests that run long, and looking whether Valkey was emptied."""
        self._keepers = [asyncio.create_task(self._renew()), asyncio.create_task(self._look())]

    async def close(self) -> None:
        """Let what is being settled finish, for at most a second."""
        for keeper in self._keepers:
            keeper.cancel()
        await self._settlements.close()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=1)

    async def admit(self, payer: Payer, claim: Claim) -> Verdict:
        """Admit a request, or let a running one grow: the hold in place of what it held, and all limits.

        Raises:
            GatewayError: 503 when nothing can be decided.
        """
        verdict = await self._admit(payer, claim)
        if verdict.state != HELD:
            return verdict
        before = self._live.pop(claim.taken_from or claim.request_id, None)
        if before is None:
            self._local.enter(payer)
        nano, from_valkey = claim.total_nano(verdict.tokens), verdict.now_us > 0
        reached = nano if from_valkey else before.reached_nano if before else 0
        self._live[claim.request_id] = Live(payer, nano, reached)
        return verdict

    def settle(
        self,
        payer: Payer,
        request_id: str,
        cost_nano: int | None,
        *,
        corrections: tuple[tuple[int, int, int], ...] = (),
        admitted_us: int = 0,
    ) -> None:
        """A request has ended: keep its cost until the rater posts it. None keeps all that it held, FREE nothing."""
        live = self._live.pop(request_id, None)
        put_back = False
        if live:
            payer = live.payer
            cost_nano = live.nano if cost_nano is None else cost_nano
            self._local.leave(payer)
            self._local.settle(payer, request_id, cost_nano - live.reached_nano)
            put_back = live.reached_nano < live.nano
        corrections = corrections or ((0, 0, 0),) * len(payer.scopes)
        ended = Ended(payer, request_id, cost_nano, corrections, admitted_us, put_back)
        self._settlements.add(ended, is_last=not self._live)

    async def open_budget(self, scope: Scope, *, lasts_ms: int) -> None:
        """Begin the budget of a client token, which Valkey alone counts.

        Raises:
            GatewayError: 503 without Valkey.
        """
        try:
            await self._valkey.run("open_spent", budgets.spent_keys(scope.name), [str(lasts_ms)])
        except ValkeyUnavailableError as error:
            raise limits_unavailable() from error

    async def _admit(self, payer: Payer, claim: Claim) -> Verdict:
        verdict = await self._admit_in_valkey(payer, claim) or self._admit_here(payer, claim)
        # Nothing here can decide. A server that was lost only now is often back in a moment.
        if verdict is None and await self._valkey.comes_back():
            verdict = await self._admit_in_valkey(payer, claim)
        if verdict:
            return verdict
        if claim.is_first and (await self._balance(payer.owner_id)).picousd <= 0:
            return Verdict(MONEY)
        raise limits_unavailable()

    async def _admit_in_valkey(self, payer: Payer, claim: Claim) -> Verdict | None:
        if not (self._is_current() or await self._catches_up()):
            return None
        try:
            verdict = await self._ask(payer, claim)
            # Never seen, or refused: money may have come in that only the ledger knows of yet.
            if verdict.state in (UNSEEN, MONEY, BUDGET) and await self._seed(payer, verdict):
                verdict = await self._ask(payer, claim)
        except ValkeyUnavailableError:
            return None
        if verdict.state == UNSEEN:
            return None
        if verdict.state == HELD:
            # Valkey writes a ration anew when half of its lease is over.
            self._local.learn(payer, verdict, now_s=monotonic(), lease_s=self._lease_ms / 2000)
        return verdict

    def _admit_here(self, payer: Payer, claim: Claim) -> Verdict | None:
        live = self._live.get(claim.taken_from or claim.request_id)
        return self._local.admit(payer, claim, held_nano=live.reached_nano if live else 0, now_s=monotonic())

    async def _ask(self, payer: Payer, claim: Claim) -> Verdict:
        # A request that comes after another's end finds its place free.
        self._settlements.tell()
        moment = datetime.now(UTC)
        args = admission.admit_args(
            payer,
            claim,
            lease_ms=self._lease_ms,
            process=self._process,
            ration_nano=self._ration_nano,
            day=budgets.day_of(moment),
            month=budgets.month_of(moment),
        )
        verdict = admission.verdict_of(await self._valkey.run("admit", payer.script_keys, args))
        if verdict.state in (MONEY, BUDGET):
            self._local.give_up(payer.owner_id)  # as Valkey did
        return verdict

    async def _seed(self, payer: Payer, verdict: Verdict) -> bool:
        """Load from the books what Valkey does not know, or may know too late; False when the books are away."""
        try:
            if verdict.unseen_wallet or verdict.state == MONEY:
                await self._seed_wallet(payer.owner_id)
            for number in (
                verdict.unseen if verdict.state == UNSEEN else [verdict.scope] * (verdict.state == BUDGET)
            ):
                await self._seed_scope(payer, payer.scopes[number], needed=verdict.state == UNSEEN)
        except GatewayError:
            if verdict.state == UNSEEN:
                raise
            return False
        if verdict.unseen_wallet:
            await self._put_back(
                [name for name, one in self._live.items() if one.payer.owner_id == payer.owner_id]
            )
        return True

    async def _seed_wallet(self, owner_id: str) -> None:
        balance = await self._balance(owner_id)
        args = holds.seed_args(version=balance.version, balance_picousd=balance.picousd, now_ms=_now_ms())
        await self._valkey.run("seed", holds.script_keys(owner_id), args)

    async def _seed_scope(self, payer: Payer, scope: Scope, *, needed: bool) -> None:
        if not scope.is_booked:
            if needed:
                message = "The budget of this client token is not known any more. Ask for a new token."
                raise GatewayError(401, "client_token_unknown", message)
            return
        moment = datetime.now(UTC)
        try:
            spent = await self._spent.get((payer.owner_id, scope.kind, scope.id, budgets.day_of(moment)))
        except LoadFailedError as error:
            raise books_unavailable() from error
        await self._valkey.run(
            "spent", budgets.spent_keys(scope.name), budgets.spent_args(spent, moment=moment)
        )

    async def _balance(self, owner_id: str) -> Balance:
        try:
            return await self._balances.get(owner_id)
        except LoadFailedError as error:
            raise books_unavailable() from error

    async def _load_balance(self, owner_id: str) -> Balance:
        row = await self._database.row(BALANCE_OF_ORG, [owner_id])
        return Balance(int(row["balance_picousd"]), int(row["version"])) if row else Balance(0, 0)

    async def _load_spent(self, name: tuple[str, str, str, str]) -> Spent:
        owner_id, kind, scope_id, _ = name
        day = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        key_id = scope_id if kind == "key" else ""
        member_id = scope_id.partition(":")[2] if kind == "member" else ""
        values = [day, day.replace(day=1), key_id, key_id, member_id, member_id, owner_id]
        row = await self._database.row(SPENT_OF_SCOPE, values)
        if row is None:
            return Spent(0, 0, 0, 0)
        return Spent(int(row["version"]), int(row["day"]), int(row["month"]), int(row["total"]))

    async def _put_back(self, request_ids: list[str]) -> bool:
        """Tell Valkey of running requests whose holds it has lost or never heard of."""
        results = await asyncio.gather(*(self._put_one_back(request_id) for request_id in request_ids))
        return all(results)

    async def _put_one_back(self, request_id: str) -> bool:
        live = self._live.get(request_id)
        if live is None:
            return True
        nano = live.nano
        args = admission.renew_args(
            live.payer, request_id=request_id, lease_ms=self._lease_ms, put_back_nano=nano
        )
        if not await self._run("renew", live.payer.script_keys, args):
            return False
        live.reached_nano = max(live.reached_nano, nano)
        return True

    def _is_current(self) -> bool:
        """Whether Valkey knows all that this process has done; if not, tell it in the background."""
        if not self._valkey.up:
            return False
        if self._restored == self._valkey.connections:
            return True
        if not (self._live or self._settlements.owes):
            self._restored = self._valkey.connections
            return True
        if self._restoring is None or self._restoring.done():
            self._restoring = self._spawn(self._restore())
        return False

    async def _catches_up(self) -> bool:
        """Wait a moment while Valkey is being told what it has missed; nothing to wait for when it is away."""
        if not self._valkey.up or self._restoring is None:
            return False
        await asyncio.wait({self._restoring}, timeout=CATCH_UP_S)
        return self._restored == self._valkey.connections

    async def _restore(self) -> None:
        connection = self._valkey.connections
        if not (await self._settlements.pay() and await self._put_back(list(self._live))):
            return
        self._restored = connection
        await self._settlements.pay()  # what ended meanwhile

    async def _run(self, script: str, keys: Sequence[str], args: Sequence[str]) -> bool:
        try:
            await self._valkey.run(script, keys, args)
        except ValkeyUnavailableError:
            return False
        return True

    def _spawn(self, work: Coroutine[Any, Any, object]) -> asyncio.Task[object]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(self._renew_every_s)
            for request_id, live in list(self._live.items()):
                args = admission.renew_args(live.payer, request_id=request_id, lease_ms=self._lease_ms)
                await self._run("renew", live.payer.script_keys, args)

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(self._look_every_s)
            if not self._is_current():
                continue
            try:
                # A word of its own each time: whoever leaves the same one again would not notice what was lost.
                raw = await self._valkey.run("look", LOOK_KEYS, [secrets.token_hex(8)])
            except ValkeyUnavailableError:
                continue
            mark, *recalled = [word.decode() if isinstance(word, bytes) else str(word) for word in raw]
            if self._mark and mark != self._mark:
                self._restored = -1  # it was emptied: tell it anew of everything that runs
            self._mark = mark
            await self._give_back(recalled)

    async def _give_back(self, owner_ids: Sequence[str]) -> None:
        """Let go of what is set aside for owners whom another process had to refuse."""
        for owner_id in owner_ids:
            # Also where nothing is known of it here: Valkey's word of it, or of its end, may have come too late.
            self._local.give_up(owner_id)
            await self._run("give_back", [rations_key(owner_id)], [self._process])
            # An admission that was on its way may have brought one that Valkey has dropped since.
            self._local.give_up(owner_id)


def _now_ms() -> int:
    return int(time.time() * 1000)
