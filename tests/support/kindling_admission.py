"""One payer's state in a real Valkey, driven by the scripts with a clock that the test moves."""

import itertools
import time
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

import redis

from kindling_billing import admission, admission_scripts, budgets, holds
from kindling_billing.admission import Claim, Payer, Verdict
from kindling_billing.budgets import Spent
from kindling_billing.limits import Limits, Scope

NOW_MS = 1_800_000_000_000
LEASE_MS = 60_000
NUMBERS = itertools.count()


@dataclass(slots=True)
class Desk:
    """Asks the scripts as a gateway does; `now_ms` is the clock of everything."""

    valkey: redis.Redis
    payer: Payer
    now_ms: int = NOW_MS
    process: str = "p1"
    ration_nano: int = 0
    admitted_us: dict[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, valkey: redis.Redis, *, nano: int | None = 10**12, **limits: Limits) -> "Desk":
        """A desk of a new owner with so much money; `organisation=Limits(…)`, `key=…` bind it."""
        owner = f"org_{next(NUMBERS)}"
        scopes = tuple(Scope(kind, f"{kind}_{owner}", bound) for kind, bound in limits.items())
        desk = cls(valkey, Payer(owner, f"key_{owner}", 1, scopes))
        valkey.delete(*desk.payer.script_keys)
        if nano is not None:
            desk.seed(nano)
        for number, scope in enumerate(scopes):
            if scope.limits.has_budget:
                desk.spent(number, 0)
        return desk

    def elsewhere(self, process: str) -> "Desk":
        """The same owner at another process."""
        return replace(self, process=process)

    def seed(self, nano: int, *, version: int = 1) -> int:
        args = holds.seed_args(version=version, balance_picousd=nano * 1000, now_ms=self.now_ms)
        return self._wallet("seed", args)

    def posted(self, nano: int, *request_ids: str, version: int) -> int:
        args = holds.posted_args(version=version, balance_picousd=nano * 1000, request_ids=list(request_ids))
        return self._wallet("posted", args)

    def spent(self, scope: int, nano: int, *request_ids: str, version: int = 1, before: int = 0) -> int:
        """So much was spent today by the books, and `before` earlier this month."""
        pico = nano * 1000
        facts = Spent(version, pico, pico + before * 1000, pico + before * 1000)
        args = budgets.spent_args(facts, moment=self.moment, request_ids=list(request_ids))
        keys = budgets.spent_keys(self.payer.scopes[scope].name)
        return int(self.valkey.eval(budgets.SCRIPTS["spent"], 2, *keys, *args))

    @property
    def moment(self) -> datetime:
        return datetime.fromtimestamp(self.now_ms / 1000, UTC)

    def ask(self, request_id: str, *, fixed: int = 0, tokens: int = 0, least: int | None = None, price: int = 1,
            units: tuple[int, int, int, int] = (1, 0, 0, 0), is_first: bool = True, taken_from: str = "",
            epoch: int = 1) -> Verdict:  # fmt: skip
        """Ask for `fixed` nano-dollars and tokens at `price` nano-dollars each."""
        claim = Claim(
            request_id,
            fixed * 1000,
            price * 1000,
            tokens,
            tokens if least is None else least,
            units,
            is_first,
            taken_from,
        )
        args = admission.admit_args(
            replace(self.payer, epoch=epoch), claim, lease_ms=LEASE_MS, process=self.process,
            ration_nano=self.ration_nano, day=budgets.day_of(self.moment), month=budgets.month_of(self.moment),
            now_us=self.now_ms * 1000,
        )  # fmt: skip
        verdict = admission.verdict_of(self._run("admit", args))
        self.admitted_us.setdefault(request_id, verdict.now_us)
        return verdict

    def finish(self, request_id: str, nano: int | None, *, corrections: tuple[int, int, int] = (0, 0, 0),
               put_back: bool = False) -> None:  # fmt: skip
        args = admission.finish_args(
            self.payer, request_id=request_id, cost_nano=nano, corrections=[corrections] * len(self.payer.scopes),
            posting_ms=LEASE_MS, admitted_us=self.admitted_us.get(request_id, 0), put_back=put_back,
            now_us=self.now_ms * 1000,
        )  # fmt: skip
        self._run("finish", args)

    def renew(self, request_id: str, *, put_back_nano: int | None = None) -> int:
        args = admission.renew_args(
            self.payer,
            request_id=request_id,
            lease_ms=LEASE_MS,
            put_back_nano=put_back_nano,
            now_us=self.now_ms * 1000,
        )
        return int(self._run("renew", args))

    @property
    def held(self) -> dict[str, int]:
        return amounts(self.valkey, holds.holds_key(self.payer.owner_id))

    @property
    def sum(self) -> int:
        return int(self.valkey.hget(holds.wallet_key(self.payer.owner_id), "h"))

    def spending(self, scope: int = 0) -> dict[str, int]:
        return amounts(self.valkey, budgets.spent_keys(self.payer.scopes[scope].name)[1])

    def _wallet(self, script: str, args: list[str]) -> int:
        return int(self.valkey.eval(holds.SCRIPTS[script], 2, *holds.script_keys(self.payer.owner_id), *args))

    def _run(self, script: str, args: list[str]):
        keys = self.payer.script_keys
        return self.valkey.eval(admission_scripts.SCRIPTS[script], len(keys), *keys, *args)


def hold_place(
    valkey: redis.Redis,
    owner_id: str,
    request_id: str,
    *,
    nano: int,
    picousd: int,
    version: int = 1,
    budgets: dict[str, Limits] | None = None,
) -> Desk:
    """Hold money of an owner with this balance, as the gateway does when it admits a request now."""
    scopes = tuple(Scope(kind, owner_id, bound) for kind, bound in (budgets or {}).items())
    desk = Desk(valkey, Payer(owner_id, "key_of_nobody", 1, scopes), now_ms=int(time.time() * 1000))
    desk.seed(picousd // 1000, version=version)
    for number in range(len(scopes)):
        desk.spent(number, 0, version=0)
    assert desk.ask(request_id, fixed=nano).state == admission.HELD
    return desk


def amounts(valkey: redis.Redis, key: str) -> dict[str, int]:
    """The amounts in a hash of holds."""
    return {_text(name): int(_text(value).split(":")[0]) for name, value in valkey.hgetall(key).items()}


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value
