"""What one process decides by itself while Valkey is away: rates in its share, and a ration of money set aside before.

The ration was held in Valkey for this process alone, so that whatever the processes do without hearing of each other
stays within the balance. When it is spent, or its lease is over, requests are asked to come back.
"""

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TypeVar

from kindling_billing.admission import BUDGET, HELD, LIMITED, SLOTS, Claim, Payer, ScopeState, Verdict
from kindling_billing.limits import Scope, burst_of, charge_us, wait_us

T = TypeVar("T")
REMEMBERED = 20_000
US_PER_S = 1_000_000
IN_ALL = 2


@dataclass(slots=True)
class Ration:
    """Money of one owner for this process until `until_s`; `spent` are nano-dollars by request."""

    nano: int
    until_s: float
    processes: int
    spent: dict[str, int] = field(default_factory=dict)


@dataclass(slots=True)
class Seen:
    """A scope as Valkey saw it last, and what this process has done since."""

    left_nano: int | None = None
    running: int = 0
    processes: int = 1
    _full_at_us: list[float] = field(default_factory=lambda: [0.0, 0.0, 0.0, 0.0])
    _told: tuple[float, ScopeState] | None = None

    def learn(self, state: ScopeState, *, now_us: float, processes: int) -> None:
        """Take over what Valkey said; most of it is never looked at, so it is not worked out yet."""
        self._told = now_us, state
        self.left_nano, self.processes = state.left_nano, processes

    def full_at_us(self) -> list[float]:
        """When each bucket is full again, in µs of the local clock; for the caller to change."""
        if self._told:
            now_us, state = self._told
            self._told = None
            self._full_at_us = [now_us + max(offset or 0, 0) for offset in state.offsets_us]
        return self._full_at_us


class LocalLimits:
    """Limits of one process; the caller says what the time is, in seconds of a clock that never goes back."""

    def __init__(self) -> None:
        self._rations: OrderedDict[str, Ration] = OrderedDict()
        self._seen: OrderedDict[str, Seen] = OrderedDict()

    def learn(self, payer: Payer, verdict: Verdict, *, now_s: float, lease_s: float) -> None:
        """Remember what an admission by Valkey said."""
        ration = Ration(verdict.ration_nano, now_s + lease_s, verdict.processes)
        _remember(self._rations, payer.owner_id, ration)
        now_us = now_s * US_PER_S
        for scope, state in zip(payer.scopes, verdict.scopes, strict=False):
            seen = self._seen.get(scope.name) or Seen()
            seen.learn(state, now_us=now_us, processes=verdict.processes)
            _remember(self._seen, scope.name, seen)

    def give_up(self, owner_id: str) -> None:
        """Spend nothing more without Valkey until it says so again."""
        if ration := self._rations.get(owner_id):
            ration.nano = 0

    def enter(self, payer: Payer) -> None:
        """A request runs, whoever admitted it."""
        for scope in payer.scopes:
            self._see(scope).running += 1

    def leave(self, payer: Payer) -> None:
        """The request has ended."""
        for scope in payer.scopes:
            if seen := self._seen.get(scope.name):
                seen.running = max(seen.running - 1, 0)

    def admit(self, payer: Payer, claim: Claim, *, held_nano: int, now_s: float) -> Verdict | None:
        """Decide alone; None when there is no ration to decide with. `held_nano` is what Valkey holds already."""
        blocked = self._blocked(payer, claim, now_s) if claim.is_first and not claim.taken_from else None
        if blocked:
            return blocked
        ration = self._rations.get(payer.owner_id)
        mine = 0
        if ration:
            mine = ration.spent.get(claim.taken_from or claim.request_id, 0)
        tokens = claim.tokens
        if claim.total_nano(tokens) > held_nano + mine:
            if ration is None or ration.until_s <= now_s:
                return None
            free = ration.nano - sum(ration.spent.values()) + mine + held_nano
            tokens = _tokens_for(claim, free)
            if tokens < claim.least:
                return None
            short = self._short(payer, held_nano + mine)
            if short is None:
                return None
            tokens = min([tokens, *(_tokens_for(claim, left) for left, _ in short)])
            if tokens < claim.least:
                scope = next(number for left, number in short if _tokens_for(claim, left) < claim.least)
                return Verdict(BUDGET, scope=scope, period=IN_ALL, scopes=self._states(payer, now_s))
        self._take(payer, claim, claim.total_nano(tokens) - held_nano, now_s)
        return Verdict(HELD, tokens=tokens, scopes=self._states(payer, now_s))

    def settle(self, payer: Payer, request_id: str, extra_nano: int) -> None:
        """What a request has cost beyond what Valkey held for it; 0 and less gives all of it back."""
        ration = self._rations.get(payer.owner_id)
        if ration is None or request_id not in ration.spent:
            return
        before = ration.spent.pop(request_id)
        if extra_nano > 0:
            ration.spent[request_id] = extra_nano
        for scope in payer.scopes:
            seen = self._seen.get(scope.name)
            if seen and seen.left_nano is not None:
                seen.left_nano += before - max(extra_nano, 0)

    def _blocked(self, payer: Payer, claim: Claim, now_s: float) -> Verdict | None:
        now_us = now_s * US_PER_S
        for number, scope in enumerate(payer.scopes):
            seen = self._see(scope)
            most = _share(scope.limits.concurrent_requests, seen.processes)
            if most is not None and seen.running >= most:
                return Verdict(SLOTS, scope=number, scopes=self._states(payer, now_s))
            for bucket, rate in enumerate(scope.limits.rates):
                limit = _share(rate, seen.processes)
                if limit is None:
                    continue
                burst = burst_of(bucket, limit)
                full_at_us = seen.full_at_us()[bucket]
                wait = wait_us(full_at_us, now_us, units=claim.units[bucket], limit=limit, burst=burst)
                if wait >= 1:
                    states = self._states(payer, now_s)
                    return Verdict(LIMITED, scope=number, bucket=bucket, wait_us=int(wait), scopes=states)
        return None

    def _short(self, payer: Payer, mine_nano: int) -> list[tuple[int, int]] | None:
        """What budgets leave for this request's whole hold, with the number of their scope; None if one is unknown."""
        found = []
        for number, scope in enumerate(payer.scopes):
            if not scope.limits.has_budget:
                continue
            seen = self._see(scope)
            if seen.left_nano is None:
                return None
            found.append((seen.left_nano // seen.processes + mine_nano, number))
        return found

    def _take(self, payer: Payer, claim: Claim, extra_nano: int, now_s: float) -> None:
        ration = self._rations.get(payer.owner_id)
        grown = extra_nano
        if ration:
            grown -= ration.spent.pop(claim.taken_from or claim.request_id, 0)
            if extra_nano > 0:
                ration.spent[claim.request_id] = extra_nano
        now_us = now_s * US_PER_S
        for scope in payer.scopes:
            seen = self._see(scope)
            if seen.left_nano is not None and grown > 0:
                seen.left_nano -= grown
            if claim.taken_from:
                continue
            for bucket, rate in enumerate(scope.limits.rates):
                limit = _share(rate, seen.processes)
                if limit is not None and claim.units[bucket]:
                    units = min(claim.units[bucket], burst_of(bucket, limit))
                    full = seen.full_at_us()
                    full[bucket] = max(full[bucket], now_us) + charge_us(units, limit)

    def _states(self, payer: Payer, now_s: float) -> tuple[ScopeState, ...]:
        now_us = now_s * US_PER_S
        states = []
        for scope in payer.scopes:
            seen = self._see(scope)
            offsets = [max(int(full - now_us), 0) for full in seen.full_at_us()]
            states.append(
                ScopeState((offsets[0], offsets[1], offsets[2], offsets[3]), seen.running, seen.left_nano)
            )
        return tuple(states)

    def _see(self, scope: Scope) -> Seen:
        seen = self._seen.get(scope.name)
        if seen is None:
            seen = Seen()
            _remember(self._seen, scope.name, seen)
        return seen


def _tokens_for(claim: Claim, free_nano: int) -> int:
    if claim.total_nano(claim.tokens) <= free_nano:
        return claim.tokens
    if not claim.price_picousd:
        return -1
    return min((free_nano * 1000 - claim.prompt_picousd) // claim.price_picousd, claim.tokens)


def _share(limit: int | None, processes: int) -> int | None:
    return None if limit is None else max(limit // processes, 1)


def _remember(kept: "OrderedDict[str, T]", name: str, value: T) -> None:
    kept[name] = value
    kept.move_to_end(name)
    if len(kept) > REMEMBERED:
        kept.popitem(last=False)
