"""Keeps what was spent of each budget true in Valkey: told after a posting, rebuilt from the books every minute."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import redis

from kindling_billing import budgets
from kindling_billing.budgets import Spent
from kindling_billing.holds import hold_nano
from kindling_platform.common.clock import now
from kindling_platform.deployments.budgets import budget_spent_get
from kindling_platform.keys.alerts import alerts_note
from kindling_platform.keys.limits import budget_list
from kindling_platform.keys.models import LimitSet

FIELDS = ["v", "d", "ds", "m", "ms", "t"]


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """What a rebuild found: scopes with a budget, those whose counter was wrong, and by how much."""

    scopes: int = 0
    drifted: int = 0
    drift_nano: int = 0

    def __add__(self, other: "Rebuilt") -> "Rebuilt":
        return Rebuilt(
            self.scopes + other.scopes, self.drifted + other.drifted, self.drift_nano + other.drift_nano
        )


class Budgets:
    """The counters in one Valkey. Errors of every method: `redis.RedisError`."""

    def __init__(self, client: "redis.Redis") -> None:
        self._client = client
        self._spent = client.register_script(budgets.SPENT)

    def posted(self, *, owner_id: str, version: int, request_ids: list[str]) -> None:
        """Set what an owner's scopes have spent after a posting, and drop the holds of the posted requests."""
        self._rebuild(budget_list(org_ids=[owner_id]), {owner_id: version}, {owner_id: request_ids})

    def rebuild(self, versions: dict[str, int], posted: dict[str, list[str]]) -> Rebuilt:
        """Compare every counter of these owners with the books and put it right; gives what was wrong.

        `versions` are those of the owners' accounts, read before; `posted` names requests that the books hold.
        """
        return self._rebuild(budget_list(org_ids=list(versions)), versions, posted)

    def _rebuild(
        self, rows: Sequence[LimitSet], versions: dict[str, int], posted: dict[str, list[str]]
    ) -> Rebuilt:
        found = Rebuilt()
        for limits in rows:
            owner_id, moment = limits.organisation_id, now()
            spent = budget_spent_get(limits=limits, moment=moment, version=versions[owner_id])
            keys = budgets.spent_keys(limits.scope_name)
            drift = self._drift(keys[0], spent, budgets.day_of(moment), budgets.month_of(moment))
            args = budgets.spent_args(spent, moment=moment, request_ids=posted.get(owner_id))
            self._spent(keys=keys, args=args)
            found += Rebuilt(1, int(drift > 0), drift)
            alerts_note(limits=limits, spent=spent, moment=moment)
        return found

    def _drift(self, key: str, spent: Spent, day: str, month: str) -> int:
        """By how much a counter of the same version differs; an older one is only behind."""
        seen: Any = self._client.hmget(key, FIELDS)
        version, its_day, in_day, its_month, in_month, in_all = seen
        if version is None or int(version) != spent.version:
            return 0
        drift = abs(int(in_all or 0) - hold_nano(spent.total_picousd))
        if its_day == day:
            drift = max(drift, abs(int(in_day or 0) - hold_nano(spent.day_picousd)))
        if its_month == month:
            drift = max(drift, abs(int(in_month or 0) - hold_nano(spent.month_picousd)))
        return drift
