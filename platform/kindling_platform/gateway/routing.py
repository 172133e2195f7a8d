"""Which replica serves: least outstanding among the ready ones, ties in turn, a short wait if none is."""

import asyncio
from collections import defaultdict
from dataclasses import dataclass
from time import monotonic

from kindling_platform.gateway.auth import Caller
from kindling_platform.gateway.caches import LoadFailedError, TtlCache
from kindling_platform.gateway.catalog import Model
from kindling_platform.gateway.database import REPLICAS_OF_MODEL, Database
from kindling_platform.gateway.errors import books_unavailable, no_replica
from kindling_platform.gateway.names import ModelName

WAIT_S = 5.0
POLL_S = 0.2
SUSPECT_S = 0.5
MAX_WAITING = 256


@dataclass(frozen=True, slots=True)
class Replica:
    """A ready engine of a deployment."""

    deployment_id: str
    deployment_name: str
    org_slug: str
    name: str
    url: str


class Router:
    """Picks replicas; what is outstanding is counted in this process alone."""

    def __init__(self, database: Database, *, wait_s: float = WAIT_S) -> None:
        self._database = database
        self._wait_s = wait_s
        self._replicas: TtlCache[str, list[Replica]] = TtlCache(self._load)
        self._outstanding: defaultdict[str, int] = defaultdict(int)
        self._suspect_until: dict[str, float] = {}
        self._turn = 0
        self._waiting = 0

    def deadline(self) -> float:
        """Until when a request that starts now may wait for a replica."""
        return monotonic() + self._wait_s

    async def pick(self, caller: Caller, model: Model, name: ModelName, text: str, until: float) -> Replica:
        """The replica for a request; waits up to `until` for one, then raises no_replica."""
        entry = self._replicas.fresh(model.model_id)
        if entry and (replica := self._choose(caller, model, name, entry.value)):
            return replica
        return await self._wait(caller, model, name, text, until)

    def suspect(self, replica: Replica) -> None:
        """Leave a replica alone for a moment: it refused or cut a connection."""
        self._suspect_until[replica.url] = monotonic() + SUSPECT_S

    def enter(self, replica: Replica) -> None:
        """Count a request as outstanding on a replica."""
        self._outstanding[replica.url] += 1

    def leave(self, replica: Replica) -> None:
        """The request has left the replica."""
        self._outstanding[replica.url] -= 1
        if not self._outstanding[replica.url]:
            del self._outstanding[replica.url]

    async def _wait(self, caller: Caller, model: Model, name: ModelName, text: str, until: float) -> Replica:
        if self._waiting >= MAX_WAITING:
            raise no_replica(text)
        self._waiting += 1
        try:
            while True:
                try:
                    entry = await self._replicas.entry(model.model_id, max_age_s=POLL_S)
                except LoadFailedError as error:
                    raise books_unavailable() from error
                if replica := self._choose(caller, model, name, entry.value):
                    return replica
                if monotonic() + POLL_S > until:
                    raise no_replica(text)
                await asyncio.sleep(POLL_S)
        finally:
            self._waiting -= 1

    def _choose(self, caller: Caller, model: Model, name: ModelName, ready: list[Replica]) -> Replica | None:
        now = monotonic()
        fit = [
            replica
            for replica in ready
            if replica.org_slug in (caller.org_slug, model.owner_slug)
            and _is_pinned(name, replica)
            and self._suspect_until.get(replica.url, 0.0) <= now
        ]
        if not fit:
            return None
        # A dedicated deployment of the caller's comes before the shared one of the model's owner.
        own = [replica for replica in fit if replica.org_slug == caller.org_slug] or fit
        self._turn += 1
        counts = self._outstanding
        first = self._turn % len(own)
        return min(own[first:] + own[:first], key=lambda replica: counts.get(replica.url, 0))

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


def _is_pinned(name: ModelName, replica: Replica) -> bool:
    if not name.deployment:
        return True
    if name.deployment_org_slug and name.deployment_org_slug != replica.org_slug:
        return False
    return name.deployment in (replica.deployment_name, replica.deployment_id)
