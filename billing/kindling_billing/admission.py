"""Arguments and replies of the scripts that admit, settle and renew. Pure; times in µs, money in nano-dollars."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from kindling_billing import budgets
from kindling_billing.admission_scripts import epoch_key, rations_key
from kindling_billing.holds import holds_key, wallet_key
from kindling_billing.limits import Scope

HELD: Final = "held"
MONEY: Final = "money"
BUDGET: Final = "budget"
LIMITED: Final = "limited"
SLOTS: Final = "slots"
STALE: Final = "stale"
UNSEEN: Final = "unseen"
HEAD: Final = 6
PER_SCOPE: Final = 6
SERVER_CLOCK: Final = 0
# Sums in pico-dollars stay exact in a double up to here.
MOST_PICOUSD: Final = 8 * 10**15


@dataclass(frozen=True, slots=True)
class Payer:
    """Who pays and what binds them: the organisation, the key with its epoch, and every scope with limits.

    Made once for the many requests of a payer: `script_keys` are KEYS of the scripts, `bounds` the part of ADMIT's ARGV
    about scopes, in which `units_at` names the places of a claim's units and their buckets.
    """

    owner_id: str
    key_id: str
    epoch: int
    scopes: tuple[Scope, ...] = ()
    script_keys: tuple[str, ...] = field(init=False, repr=False, compare=False)
    bounds: tuple[str, ...] = field(init=False, repr=False, compare=False)
    units_at: tuple[tuple[int, int], ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        names = [
            wallet_key(self.owner_id),
            holds_key(self.owner_id),
            rations_key(self.owner_id),
            epoch_key(self.key_id),
        ]
        for scope in self.scopes:
            names += [f"kd:gate:{scope.name}", f"kd:slots:{scope.name}", *budgets.spent_keys(scope.name)]
        object.__setattr__(self, "script_keys", tuple(names))
        bounds: list[str] = []
        units_at: list[tuple[int, int]] = []
        for limits in (scope.limits for scope in self.scopes):
            for bucket, (limit, burst) in enumerate(zip(limits.rates, limits.bursts, strict=True)):
                if limit is None:
                    bounds += ("", "", "")
                else:
                    units_at.append((len(bounds) + 2, bucket))
                    bounds += (str(limit), str(burst), "")
            bounds += (_text(limits.concurrent_requests), *(_text(budget) for budget in limits.budgets))
        object.__setattr__(self, "bounds", tuple(bounds))
        object.__setattr__(self, "units_at", tuple(units_at))


@dataclass(frozen=True, slots=True)
class Claim:
    """What a request asks for: its prompt and so many output tokens, or at least `least` of them.

    `units` are added to the buckets, in the order of `limits.BUCKETS`. `taken_from` names the hold that this one
    replaces; `is_first` tells admission from the growth of a running request, which no rate refuses.
    """

    request_id: str
    prompt_picousd: int
    price_picousd: int
    tokens: int
    least: int
    units: tuple[int, int, int, int]
    is_first: bool = True
    taken_from: str = ""

    def total_nano(self, tokens: int) -> int:
        """The hold for so many output tokens."""
        return -(-(self.prompt_picousd + tokens * self.price_picousd) // 1000)


@dataclass(frozen=True, slots=True)
class ScopeState:
    """Where a scope stands: until when each bucket fills (None: unlimited), requests running, money left."""

    offsets_us: tuple[int | None, int | None, int | None, int | None] = (None, None, None, None)
    running: int | None = None
    left_nano: int | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """What ADMIT said. `state` tells what the rest means:

    HELD: `tokens` are granted, `ration_nano` was put aside for this process. MONEY, BUDGET: `left_nano` does not
    suffice. LIMITED, SLOTS: `scope` (and `bucket`) is full, for `wait_us`. STALE: the key has `epoch` by now.
    UNSEEN: Valkey does not know the wallet or the budgets of the scopes in `unseen`.
    """

    state: str
    tokens: int = 0
    left_nano: int = 0
    ration_nano: int = 0
    scope: int = -1
    bucket: int = -1
    period: int = -1
    wait_us: int = 0
    epoch: int = 0
    unseen_wallet: bool = False
    unseen: tuple[int, ...] = ()
    processes: int = 1
    now_us: int = 0
    scopes: tuple[ScopeState, ...] = field(default=())


def admit_args(
    payer: Payer,
    claim: Claim,
    *,
    lease_ms: int,
    process: str,
    ration_nano: int,
    day: str,
    month: str,
    now_us: int = SERVER_CLOCK,
) -> list[str]:
    """ARGV of ADMIT."""
    bounds = list(payer.bounds)
    for at, bucket in payer.units_at:
        bounds[at] = str(claim.units[bucket])
    return [
        claim.request_id, claim.taken_from or claim.request_id, str(now_us), str(lease_ms), _flag(claim.is_first),
        str(payer.epoch), str(claim.prompt_picousd), str(claim.price_picousd), str(claim.tokens), str(claim.least),
        process, str(ration_nano), day, month, str(len(payer.scopes)), *bounds,
    ]  # fmt: skip


def verdict_of(raw: Sequence[bytes | str]) -> Verdict:
    """Read ADMIT's reply."""
    state, a = _word(raw[0]), raw[1]
    if state == STALE:
        return Verdict(STALE, epoch=int(a))
    if state == UNSEEN:
        numbers = [int(number) for number in _word(a).split(",")]
        return Verdict(
            UNSEEN, unseen_wallet=0 in numbers, unseen=tuple(number - 1 for number in numbers if number)
        )
    b, c, processes, now_us = map(int, raw[2:HEAD])
    states = tuple([_scope_state(raw[at : at + PER_SCOPE]) for at in range(HEAD, len(raw), PER_SCOPE)])
    if state == HELD:
        return Verdict(
            HELD,
            tokens=int(a),
            left_nano=b,
            ration_nano=c,
            processes=processes,
            now_us=now_us,
            scopes=states,
        )
    common = Verdict(state, processes=processes, now_us=now_us, scopes=states)
    match state:
        case "money":
            return replace(common, left_nano=b)
        case "budget":
            return replace(common, scope=int(a) - 1, left_nano=b, period=c - 1)
        case "limited":
            return replace(common, scope=int(a) - 1, wait_us=b, bucket=c - 1)
        case _:
            return replace(common, scope=int(a) - 1)


def finish_args(
    payer: Payer,
    *,
    request_id: str,
    cost_nano: int | None,
    corrections: Sequence[tuple[int, int, int]],
    posting_ms: int,
    admitted_us: int,
    put_back: bool = False,
    now_us: int = SERVER_CLOCK,
) -> list[str]:
    """ARGV of FINISH; a cost of None keeps what is held, −1 frees it. `corrections` are units of tokens by scope."""
    args = [
        request_id, str(now_us), _text(cost_nano), str(posting_ms), str(admitted_us), _flag(put_back),
        str(len(payer.scopes)),
    ]  # fmt: skip
    for scope, units in zip(payer.scopes, corrections, strict=True):
        for limit, correction in zip(scope.limits.rates[1:], units, strict=True):
            args += (_text(limit), str(correction))
        args.append(_flag(scope.is_booked))
    return args


def renew_args(
    payer: Payer,
    *,
    request_id: str,
    lease_ms: int,
    put_back_nano: int | None = None,
    now_us: int = SERVER_CLOCK,
) -> list[str]:
    """ARGV of RENEW; with an amount a hold that was lost comes back."""
    args = [request_id, str(now_us), str(lease_ms), _text(put_back_nano), str(len(payer.scopes))]
    for scope in payer.scopes:
        args += (_flag(scope.limits.concurrent_requests is not None), _flag(scope.limits.has_budget))
    return args


def _word(item: bytes | str) -> str:
    return item.decode() if isinstance(item, bytes) else item


def _scope_state(items: Sequence[bytes | str]) -> ScopeState:
    p, q, r, s, running, left_nano = [int(item) if item else None for item in items]
    return ScopeState((p, q, r, s), running, left_nano)


def _flag(value: bool) -> str:
    return "1" if value else "0"


def _text(value: int | None) -> str:
    return "" if value is None else str(value)
