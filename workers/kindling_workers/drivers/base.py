"""What every driver can do, and how it fails.

A driver keeps no truth: rows in the database say what should run. All of its methods may be repeated.
"""

from dataclasses import dataclass
from typing import Protocol

from kindling_engine.protocol.replica import ReplicaSpec, ReplicaStatus
from kindling_engine.protocol.usage_log import UsageRecord


class DriverError(Exception):
    """The driver could not do it: a stable code and a sentence for an operator."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class DriverUnreachable(DriverError):
    """Nobody answered: what runs there is unknown, not gone."""


@dataclass(frozen=True, slots=True)
class UsageLog:
    """A file of a replica's usage log as the driver sees it; `replica` names the file, and `written_ms` is when it was
    last written, in Unix milliseconds.
    """

    replica: str
    size_bytes: int
    written_ms: int


@dataclass(frozen=True, slots=True)
class UsagePage:
    """Records read from a log, the log's id, and the offset after the last record."""

    log_id: str
    records: list[UsageRecord]
    next_offset: int


class Driver(Protocol):
    """Runs replicas. Errors of every method: `DriverError`, `DriverUnreachable`."""

    def ensure(self, spec: ReplicaSpec) -> ReplicaStatus:
        """Run the replica as described; a repeat changes nothing, a newer generation replaces the older."""
        ...

    def observe(self, name: str) -> ReplicaStatus | None:
        """What the replica does now, or None when it does not run here."""
        ...

    def delete(self, name: str) -> None:
        """Stop the replica; its usage log stays. Deleting what is not there is fine."""
        ...

    def replica_list(self) -> list[ReplicaStatus]:
        """Everything that runs."""
        ...


class UsageSource(Protocol):
    """Serves usage logs, also those of dead and deleted replicas. Errors as for `Driver`."""

    def usage_list(self) -> list[UsageLog]:
        """Every log there is."""
        ...

    def usage_read(self, replica: str, *, after: int, limit: int) -> UsagePage:
        """Up to `limit` records that begin at or after the byte `after`."""
        ...

    def usage_delete(self, replica: str, *, size_bytes: int) -> bool:
        """Delete a log that has been read to this size; False if it is still written or has grown. Deleting what is not
        there is fine.
        """
        ...
