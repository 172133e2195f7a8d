"""A driver in memory which fails on demand: the reconciler's and the ingest's worst day."""

from dataclasses import dataclass, field
from uuid import uuid4

import msgspec

from kindling_engine.protocol.replica import ReplicaSpec, ReplicaStatus
from kindling_engine.protocol.usage_log import UsageRecord
from kindling_workers.drivers.base import DriverError, DriverUnreachable, UsageLog, UsagePage


@dataclass(slots=True)
class FakeReplica:
    """An imagined engine; `looks` counts the observations until it is ready."""

    spec: ReplicaSpec
    pid: int
    looks: int = 1
    restarts: int = 0
    state: str = "starting"
    reason: str = ""


@dataclass(slots=True)
class FakeLog:
    """A usage log whose offsets are indices."""

    log_id: str = field(default_factory=lambda: str(uuid4()))
    records: list[UsageRecord] = field(default_factory=list)
    written_ms: int = 0


class FakeDriver:
    """A `Driver` and a `UsageSource`; `down` and `broken` inject faults."""

    def __init__(self) -> None:
        self.replicas: dict[str, FakeReplica] = {}
        self.logs: dict[str, FakeLog] = {}
        self.down = False  # nobody answers
        self.broken: set[str] = set()  # replicas whose every call fails
        self.calls: list[tuple[str, str]] = []
        self.starts = 0
        self.never_ready = False
        self.full = ""  # why nothing new is started

    def ensure(self, spec: ReplicaSpec) -> ReplicaStatus:
        self._enter("ensure", spec.name)
        running = self.replicas.get(spec.name)
        if running and running.spec.generation > spec.generation:
            raise DriverError("stale_generation", "A newer generation runs.")
        if running is None and self.full:
            raise DriverError("no_room", self.full)
        if running is None or running.spec != spec:
            self.starts += 1
            self.replicas[spec.name] = FakeReplica(spec=spec, pid=1000 + self.starts)
            self.logs.setdefault(spec.name, FakeLog())
        else:
            self._age(running)
        return self._status(spec.name)

    def observe(self, name: str) -> ReplicaStatus | None:
        self._enter("observe", name)
        if name not in self.replicas:
            return None
        self._age(self.replicas[name])
        return self._status(name)

    def delete(self, name: str) -> None:
        self._enter("delete", name)
        self.replicas.pop(name, None)

    def replica_list(self) -> list[ReplicaStatus]:
        self._enter("list", "")
        return [self._status(name) for name in sorted(self.replicas)]

    def usage_list(self) -> list[UsageLog]:
        self._enter("usage_list", "")
        return [
            UsageLog(replica=name, size_bytes=len(log.records), written_ms=log.written_ms)
            for name, log in self.logs.items()
        ]

    def usage_read(self, replica: str, *, after: int, limit: int) -> UsagePage:
        self._enter("usage_read", replica)
        log = self.logs[replica]
        start = after if after <= len(log.records) else 0
        records = log.records[start : start + limit]
        return UsagePage(log_id=log.log_id, records=records, next_offset=start + len(records))

    def usage_delete(self, replica: str, *, size_bytes: int) -> bool:
        self._enter("usage_delete", replica)
        if replica in self.replicas or len(self.logs.get(replica, FakeLog()).records) != size_bytes:
            return replica not in self.logs
        del self.logs[replica]
        return True

    def crash(self, name: str) -> None:
        """The engine dies; it comes back under another pid."""
        self.starts += 1
        replica = self.replicas[name]
        replica.pid, replica.restarts, replica.looks = 1000 + self.starts, replica.restarts + 1, 1
        replica.state, replica.reason = "restarting", "The engine was ended by SIGKILL."

    def write(self, name: str, record: UsageRecord) -> None:
        self.logs.setdefault(name, FakeLog()).records.append(msgspec.structs.replace(record, replica=name))

    def _age(self, replica: FakeReplica) -> None:
        if replica.state in ("starting", "restarting") and not self.never_ready:
            replica.looks -= 1
            if replica.looks < 0:
                replica.state, replica.reason = "ready", ""

    def _enter(self, call: str, name: str) -> None:
        self.calls.append((call, name))
        if self.down:
            raise DriverUnreachable("agent_unreachable", "The agent does not answer: connection refused")
        if name in self.broken:
            raise DriverError("agent_failed", "The agent answered with status 500.")

    def _status(self, name: str) -> ReplicaStatus:
        replica = self.replicas[name]
        return ReplicaStatus(
            name=name,
            generation=replica.spec.generation,
            state=replica.state,
            url=f"http://127.0.0.1:{replica.pid}",
            pid=replica.pid,
            restarts=replica.restarts,
            reason=replica.reason,
            ready_ms=1 if replica.state == "ready" else None,
        )
