"""Which replica serves: one that knows the adapter or the prompt's beginning, while it is not much busier than others.

Else the one with the least outstanding, ties in turn. One that fails is left alone, the longer the more often it
fails in a row; the first answer brings it back. If none is ready, a short wait.
"""

import asyncio
from collections import defaultdict
from dataclasses import dataclass
from time import monotonic

from kindling_platform.gateway.adapter_tiers import NOWHERE, AdaptersOf, AdapterTiers, none_known
from kindling_platform.gateway.affinity import favourite
from kindling_platform.gateway.auth import Caller
from kindling_platform.gateway.caches import LoadFailedError, TtlCache
from kindling_platform.gateway.catalog import Model
from kindling_platform.gateway.database import DEPLOYMENTS_OF_MODEL, REPLICAS_OF_MODEL, Database
from kindling_platform.gateway.errors import books_unavailable, model_not_found, no_replica
from kindling_platform.gateway.names import ModelName

WAIT_S = 5.0
POLL_S = 0.2
SUSPECT_S = 0.5
MOST_SUSPECT_S = 16.0
# By so many requests a replica may be busier than the idlest one and still get what it is the best place for.
SLACK = 4
MAX_WAITING = 256


@dataclass(frozen=True, slots=True)
class Replica:
    """A ready engine of a deployment."""

    deployment_id: str
    deployment_name: str
    org_slug: str
    name: str
    url: str


@dataclass(frozen=True, slots=True)
class Suspect:
    """A replica that has failed so many times in a row; monotonic times of the last failure and of its return."""

    failures: int
    failed_at: float
    until: float


class Router:
    """Picks replicas; what is outstanding is counted in this process alone."""

    def __init__(
        self, database: Database, *, adapters_of: AdaptersOf = none_known, wait_s: float = WAIT_S
    ) -> None:
        self._database = database
        self._tiers = AdapterTiers(adapters_of)
        self._wait_s = wait_s
        self._replicas: TtlCache[str, list[Replica]] = TtlCache(self._load)
        self._deployments: TtlCache[str, list[Replica]] = TtlCache(self._load_deployments)
        self._outstanding: defaultdict[str, int] = defaultdict(int)
        self._suspects: dict[str, Suspect] = {}
        self._turn = 0
        self._waiting = 0

    @property
    def waiting(self) -> int:
        """Requests that wait for a replica."""
        return self._waiting

    def deadline(self) -> float:
        """Until when a request that starts now may wait for a replica."""
        return monotonic() + self._wait_s

    async def pick(
        self,
        caller: Caller,
        model: Model,
        name: ModelName,
        text: str,
        until: float,
        *,
        affinity: bytes = b"",
    ) -> Replica:
        """The replica for a request; waits up to `until` for one, then raises no_replica.

        Requests with the same `affinity` go to the same replica where that costs little.
        """
        entry = self._replicas.fresh(model.model_id)
        fit = self._fit(caller, model, name, entry.value) if entry else []
        if not fit:
            fit = await self._wait(caller, model, name, text, until)
        return self._choose(fit, model, affinity)

    async def check_pin(self, caller: Caller, model: Model, name: ModelName, text: str) -> None:
        """Raises model_not_found for a name that is pinned to a deployment which there is not, running or stopped."""
        if not name.deployment:
            return
        entry = self._replicas.fresh(model.model_id)
        if entry and any(_serves(caller, model, name, one) for one in entry.value):
            return
        try:
            there = await self._deployments.get(model.model_id)
        except LoadFailedError as error:
            raise books_unavailable() from error
        if not any(_serves(caller, model, name, one) for one in there):
            raise model_not_found(text)

    def suspect(self, replica: Replica) -> None:
        """Leave a replica alone for a while: it refused or cut a connection."""
        known = self._suspects.get(replica.url)
        failures = known.failures + 1 if known else 1
        pause_s = min(SUSPECT_S * 2 ** (failures - 1), MOST_SUSPECT_S)
        self._suspects[replica.url] = Suspect(failures, monotonic(), monotonic() + pause_s)

    def trust(self, replica: Replica) -> None:
        """The replica has answered."""
        self._suspects.pop(replica.url, None)

    def enter(self, replica: Replica) -> None:
        """Count a request as outstanding on a replica."""
        self._outstanding[replica.url] += 1

    def leave(self, replica: Replica) -> None:
        """The request has left the replica."""
        self._outstanding[replica.url] -= 1
        if not self._outstanding[replica.url]:
            del self._outstanding[replica.url]

    async def _wait(
        self, caller: Caller, model: Model, name: ModelName, text: str, until: float
    ) -> list[Replica]:
        if self._waiting >= MAX_WAITING:
            raise no_replica(text)
        self._waiting += 1
        try:
            while True:
                try:
                    entry = await self._replicas.entry(model.model_id, max_age_s=POLL_S)
                except LoadFailedError as error:
                    raise books_unavailable() from error
                if fit := self._fit(caller, model, name, entry.value):
                    return fit
                if monotonic() + POLL_S > until:
                    raise no_replica(text)
                await asyncio.sleep(POLL_S)
        finally:
            self._waiting -= 1

    def _fit(self, caller: Caller, model: Model, name: ModelName, ready: list[Replica]) -> list[Replica]:
        now = monotonic()
        if len(ready) == 1 and _serves(caller, model, name, ready[0]) and self._is_sound(ready[0], now):
            return ready
        fit = [replica for replica in ready if _serves(caller, model, name, replica)]
        # A dedicated deployment of the caller's comes before the shared one of the model's owner.
        own = [replica for replica in fit if replica.org_slug == caller.org_slug]
        for among in (own, fit):
            if sound := [replica for replica in among if self._is_sound(replica, now)]:
                return sound
        # Where all are suspects, one that has come back must not be left alone for long.
        suspects = self._suspects
        return [replica for replica in fit if suspects[replica.url].failed_at + SUSPECT_S <= now]

    def _is_sound(self, replica: Replica, now: float) -> bool:
        suspect = self._suspects.get(replica.url)
        return suspect is None or suspect.until <= now

    def _choose(self, fit: list[Replica], model: Model, affinity: bytes) -> Replica:
        if len(fit) == 1:
            return fit[0]
        counts, adapter = self._outstanding, model.adapter_hash
        if affinity or adapter:
            least = min(counts.get(replica.url, 0) for replica in fit)
            near = [replica for replica in fit if counts.get(replica.url, 0) <= least + SLACK]
            return self._best(near, adapter, affinity or adapter.encode())
        self._turn += 1
        first = self._turn % len(fit)
        return min(fit[first:] + fit[:first], key=lambda replica: counts.get(replica.url, 0))

    def _best(self, near: list[Replica], adapter: str, affinity: bytes) -> Replica:
        if adapter:
            distances = {replica.url: self._tiers.distance(replica.url, adapter) for replica in near}
            closest = min(distances.values())
            if closest < NOWHERE:
                near = [replica for replica in near if distances[replica.url] == closest]
        name = favourite(affinity, (replica.name for replica in near))
        return next(replica for replica in near if replica.name == name)

    async def _load(self, model_id: str) -> list[Replica]:
        rows = await self._database.rows(REPLICAS_OF_MODEL, [model_id])
        return [
            Replica(
                deployment_id=row["deployment_id"],
                deployment_name=row["deployment_name"],
                org_slug=row["org_slug"],
                name=row["replica_name"],
                url=row["url"].rstrip("/"),
            )
            for row in rows
            if row["url"]
        ]

    async def _load_deployments(self, model_id: str) -> list[Replica]:
        """Each as a replica without an address: what names are compared with."""
        rows = await self._database.rows(DEPLOYMENTS_OF_MODEL, [model_id])
        return [
            Replica(row["deployment_id"], row["deployment_name"], row["org_slug"], name="", url="")
            for row in rows
        ]


def _serves(caller: Caller, model: Model, name: ModelName, replica: Replica) -> bool:
    return replica.org_slug in (caller.org_slug, model.owner_slug) and _is_pinned(name, replica)


def _is_pinned(name: ModelName, replica: Replica) -> bool:
    if not name.deployment:
        return True
    if name.deployment_org_slug and name.deployment_org_slug != replica.org_slug:
        return False
    return name.deployment in (replica.deployment_name, replica.deployment_id)
