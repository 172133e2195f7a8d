"""What an observation of a replica means: what changed since the last one, and how the deployment is. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from kindling_engine.protocol.replica import ReplicaStatus


@dataclass(frozen=True, slots=True)
class Seen:
    """What the row of a replica said before."""

    state: str
    pid: int | None
    restarts: int
    heard_of: bool


@dataclass(frozen=True, slots=True)
class Change:
    """Something that happened to a replica, as an event tells it."""

    kind: str
    message: str
    data: dict[str, object] = field(default_factory=dict)


def changes_between(before: Seen, now: ReplicaStatus) -> list[Change]:
    """The events between two observations of one replica, oldest first.

    A death shows as a higher count of restarts, or, when the agent itself was replaced and counts anew,
    as another process.
    """
    changes = []
    data: dict[str, object] = {"replica": now.name, "pid": now.pid, "restarts": now.restarts}
    replaced = before.pid is not None and now.pid is not None and now.pid != before.pid
    if before.heard_of and (now.restarts > before.restarts or replaced):
        reason = now.reason or "The engine process was replaced."
        changes.append(Change("replica_restarted", f"{now.name} was started again. {reason}".strip(), data))
    if now.state == "ready" and (before.state != "ready" or changes):
        changes.append(Change("replica_ready", f"{now.name} is ready.", data))
    if now.state == "failed" and before.state != "failed":
        changes.append(Change("replica_failed", f"{now.name} does not start. {now.reason}".strip(), data))
    return changes


@dataclass(frozen=True, slots=True)
class Health:
    """A deployment's state and the plain reason for it."""

    state: str
    reason: str = ""


def health_of(*, wanted: int, states: Sequence[str], reasons: Sequence[str], was_live: bool) -> Health:
    """Sum up the states of a deployment's replicas.

    `wanted` is 0 for a deployment that should not run; `states` are those of the replicas that count;
    `was_live` tells a deployment that lost its replicas from one that has not had any yet.
    """
    if wanted == 0:
        return Health("stopped")
    ready = sum(state == "ready" for state in states)
    reason = next((text for text in reasons if text), "")
    if ready >= wanted:
        return Health("live")
    if ready:
        return Health("degraded", reason or f"{ready} of {wanted} replicas are ready.")
    if any(state == "failed" for state in states):
        return Health("failed", reason or "The engine does not start.")
    if was_live:
        return Health("degraded", reason or "The engine is starting again.")
    return Health("starting", reason or "The engine is loading the model.")
