"""The command line, the environment and the first words of an engine process."""

import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass

from kindling_engine.protocol.control_groups import ControlGroups
from kindling_engine.protocol.kv_dtypes import AUTO
from kindling_engine.protocol.replica import ReplicaSpec
from kindling_platform.common.objectstore.place import CLOUD_SECRETS
from kindling_workers.agent.places import Places

DEFAULT_ENGINE = (sys.executable, "-m", "kindling_engine")
HOST = "127.0.0.1"
LEAST_CORES = 2


@dataclass(frozen=True, slots=True)
class EngineEvent:
    """A JSON line from an engine's standard output."""

    event: str
    message: str = ""
    code: str = ""


def engine_argv(engine: tuple[str, ...], spec: ReplicaSpec, port: int, places: Places) -> tuple[str, ...]:
    return (
        *engine,
        "serve",
        *("--model", spec.model_path, "--model-ref", spec.model_ref),
        *("--host", HOST, "--port", str(port)),
        *("--usage-log", str(places.usage_log(spec.name)), "--blobs", str(places.blobs)),
        *("--replica", spec.name, "--device", spec.device),
        *("--threads", str(spec.threads), "--max-batch", str(spec.max_batch)),
        *("--weights", spec.weights, "--tuned", str(places.tuned)),
        *(() if spec.kv_dtype == AUTO else ("--kv-dtype", spec.kv_dtype)),
        *(() if places.blob_source is None else ("--blob-source", str(places.blob_source))),
    )


def engine_env(spec: ReplicaSpec, source: Mapping[str, str] | None = None) -> dict[str, str]:
    """Our environment without the platform's settings: an engine needs no secret of ours.

    One that measures how many threads are worth it leaves a core to the platform where there are more than two: a step
    takes as long as its slowest thread, and that would be the one that shares a core.
    """
    kept = {
        name: value
        for name, value in (os.environ if source is None else source).items()
        if not name.startswith(("KINDLING_", "DJANGO_")) and name not in CLOUD_SECRETS
    }
    if spec.threads:
        kept["OMP_NUM_THREADS"] = str(spec.threads)
    elif (cores := ControlGroups().cores()) > LEAST_CORES:
        kept.setdefault("OMP_NUM_THREADS", str(cores - 1))
    return {**kept, "PYTHONUNBUFFERED": "1"}


def read_event(line: bytes) -> EngineEvent | None:
    """The event in a line of output, or None for any other text."""
    if not line.startswith(b"{"):
        return None
    try:
        said = json.loads(line)
    except ValueError:
        return None
    if not isinstance(said, dict) or not isinstance(said.get("event"), str):
        return None
    return EngineEvent(said["event"], str(said.get("message", "")), str(said.get("code", "")))
