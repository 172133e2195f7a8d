"""What the agent was told to run, on disk, so that a restart of the agent brings it all back."""

import json
from dataclasses import dataclass

import msgspec

from kindling_engine.protocol.replica import ReplicaSpec
from kindling_workers.agent.places import Places


@dataclass(frozen=True, slots=True)
class StoredReplica:
    """A spec and the port that its engine keeps across restarts."""

    spec: ReplicaSpec
    port: int


def replica_save(places: Places, stored: StoredReplica) -> None:
    """Write the spec so that a crash leaves the old one or the new one."""
    path = places.spec(stored.spec.name)
    path.parent.mkdir(parents=True, exist_ok=True)
    half = path.with_suffix(".new")
    half.write_text(json.dumps({"spec": msgspec.to_builtins(stored.spec), "port": stored.port}, indent=1))
    half.replace(path)


def replica_forget(places: Places, name: str) -> None:
    places.spec(name).unlink(missing_ok=True)


def replica_load_all(places: Places) -> list[StoredReplica]:
    """Every stored replica; a file that cannot be read is passed over, its desired state comes again."""
    found = []
    for path in sorted(places.specs.glob("*.json")):
        try:
            kept = json.loads(path.read_text())
            found.append(StoredReplica(msgspec.convert(kept["spec"], ReplicaSpec), int(kept["port"])))
        except (ValueError, KeyError, msgspec.ValidationError):
            continue
    return found
