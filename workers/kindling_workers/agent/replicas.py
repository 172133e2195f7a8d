"""All replicas of this host: ensure, observe, delete, and bring back after a restart."""

import asyncio
from weakref import WeakValueDictionary

from kindling_engine.protocol.replica import ReplicaSpec, ReplicaStatus
from kindling_platform.embedded.ports import hold_port
from kindling_workers.agent.engine import DEFAULT_ENGINE
from kindling_workers.agent.errors import AgentError
from kindling_workers.agent.places import Places, checked_name
from kindling_workers.agent.replica import DRAIN_TIMEOUT_S, Replica
from kindling_workers.agent.room import room_check
from kindling_workers.agent.store import StoredReplica, replica_forget, replica_load_all, replica_save


class Replicas:
    """The replicas by name. All methods run on the event loop of the main thread.

    What is done to one name is done in turn; an engine that finishes its streams first holds up no other's.
    """

    def __init__(
        self, places: Places, engine: tuple[str, ...] = DEFAULT_ENGINE, drain_s: float = DRAIN_TIMEOUT_S
    ) -> None:
        self.places = places
        self._engine = engine
        self._drain_s = drain_s
        self._running: dict[str, Replica] = {}
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._is_closing = False

    def restore(self) -> None:
        """Start everything that was running before this agent."""
        for stored in replica_load_all(self.places):
            self._start(stored.spec, stored.port)

    async def ensure(self, spec: ReplicaSpec) -> ReplicaStatus:
        """Run the replica as described; a repeat changes nothing, a newer generation replaces the engine.

        Errors: `stale_generation` when a newer generation already runs, `no_room`, `agent_stopping`.
        """
        checked_name(spec.name)
        running = self._running.get(spec.name)
        if running and running.spec == spec:
            return running.status()
        async with self._turn(spec.name):
            running = self._running.get(spec.name)
            if running and running.spec.generation > spec.generation:
                raise AgentError(
                    "stale_generation",
                    f"Generation {running.spec.generation} of {spec.name} already runs.",
                    status=409,
                )
            if running and running.spec != spec:
                await self._stop(spec.name)
                running = None
            if running is None:
                await asyncio.to_thread(room_check, spec)
            if self._is_closing:
                raise AgentError("agent_stopping", "The agent of this host is stopping.", status=503)
            if running is None:
                running = self._start(spec)
            return running.status()

    async def delete(self, name: str) -> None:
        """Stop and forget the replica; its usage log stays. Deleting what is not there is fine."""
        async with self._turn(name):
            replica_forget(self.places, name)
            await self._stop(name)

    def get(self, name: str) -> ReplicaStatus:
        """Errors: `replica_not_found`."""
        if name not in self._running:
            raise AgentError("replica_not_found", f"No replica {checked_name(name)} runs here.", status=404)
        return self._running[name].status()

    def list(self) -> list[ReplicaStatus]:
        return [replica.status() for _, replica in sorted(self._running.items())]

    async def stop_all(self) -> None:
        """End all engines and keep what they were, for the next start of the agent."""
        self._is_closing = True
        await asyncio.gather(*(self._stop_in_turn(name) for name in {*self._running, *self._turns}))

    async def _stop_in_turn(self, name: str) -> None:
        async with self._turn(name):
            await self._stop(name)

    def _turn(self, name: str) -> asyncio.Lock:
        """The lock of a name, there for as long as somebody holds it or waits for it."""
        return self._turns.setdefault(name, asyncio.Lock())

    def _start(self, spec: ReplicaSpec, port: int | None = None) -> Replica:
        # An engine keeps its port for life: after a crash the gateway finds it where it was.
        hold = hold_port(port)
        replica_save(self.places, StoredReplica(spec, hold.port))
        replica = Replica(
            spec=spec, places=self.places, hold=hold, engine=self._engine, drain_s=self._drain_s
        )
        self._running[spec.name] = replica
        replica.start()
        return replica

    async def _stop(self, name: str) -> None:
        replica = self._running.pop(name, None)
        if replica:
            await replica.stop()
            replica.hold.release()
