"""Which replicas a deployment should have, and what its state is, given theirs. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from kindling_engine.protocol.replica import ReplicaSpec
from kindling_platform.deployments.models import Deployment

# Of a replica whose host has no room for it: it starts once there is some.
WAITING = "waiting"


def replica_name(*, deployment_id: str, generation: int, rank: int) -> str:
    """The name a replica has wherever it runs: the same wish gives the same name."""
    return f"{deployment_id}-g{generation}-r{rank}"


@dataclass(frozen=True, slots=True)
class Wanted:
    """One replica as it should be."""

    rank: int
    spec: ReplicaSpec


def replicas_wanted(deployment: Deployment) -> dict[str, Wanted]:
    """The replicas of the current generation by name; none when it should be stopped."""
    if deployment.desired_state != Deployment.Desired.RUNNING:
        return {}
    wanted = {}
    for rank in range(deployment.desired_replicas):
        name = replica_name(deployment_id=deployment.id, generation=deployment.generation, rank=rank)
        spec = ReplicaSpec(
            name=name,
            deployment_id=deployment.id,
            generation=deployment.generation,
            model_path=deployment.model.source_path,
            model_ref=deployment.model.ref,
            weights=deployment.weights,
            kv_dtype=deployment.kv_dtype,
        )
        wanted[name] = Wanted(rank=rank, spec=spec)
    return wanted


@dataclass(frozen=True, slots=True)
class Health:
    """A deployment's state and the plain reason for it."""

    state: str
    reason: str = ""


def health_of(*, wanted: int, states: Sequence[str], reasons: Sequence[str], was_live: bool) -> Health:
    """Sum up a deployment.

    `wanted` is 0 for one that should not run; `states` and `reasons` are those of its wanted replicas;
    `was_live` tells one that lost its replicas from one that has not had any yet.
    """
    if wanted == 0:
        return Health(Deployment.State.STOPPED)
    ready = sum(state == "ready" for state in states)
    reason = next((text for text in reasons if text), "")
    if ready >= wanted:
        return Health(Deployment.State.LIVE)
    if ready:
        return Health(Deployment.State.DEGRADED, reason or f"{ready} of {wanted} replicas are ready.")
    if "failed" in states:
        return Health(Deployment.State.FAILED, reason or "The engine does not start.")
    if WAITING in states:
        return Health(Deployment.State.PENDING, reason)
    if was_live:
        return Health(Deployment.State.DEGRADED, reason or "The engine is starting again.")
    return Health(Deployment.State.STARTING, reason or "The engine is loading the model.")
