"""What engines compute on here, and whether a model's weights fit into the memory that is free.

The latter is looked at before an engine is started, and knows the weights alone. An engine that finds too little for
the rest, or that another one was quicker than, says so itself.
"""

import json
import os
import shutil
import subprocess
import threading
import time
from pathlib import Path
from platform import machine

from kindling_engine.protocol.control_groups import ControlGroups
from kindling_engine.protocol.replica import ReplicaSpec
from kindling_engine.protocol.weight_forms import CHECKPOINT, FP8, HALF, INT8
from kindling_workers.agent.errors import AgentError

NO_ROOM = "no_room"
# The least that is left of weights of sixteen bits in each form: what is too large for that is too large for certain.
LEAST_PERCENT = {CHECKPOINT: 100, HALF: 100, INT8: 50, FP8: 50}
HEADER_BYTES = 100_000_000
MEMORY = Path("/proc/meminfo")
FREE, NAME = "--query-gpu=memory.free", "--query-gpu=name"
CPU = Path("/proc/cpuinfo")
GPU_TIMEOUT_S = 5.0
GPU_FRESH_S = 5.0
MIB = 1024 * 1024
GIB = 1024 * MIB
_ASKING = threading.Lock()
# What the tool said to a question, and until when that is taken for so.
_SAID: dict[tuple[str, str, str], tuple[list[str], float]] = {}


def room_check(spec: ReplicaSpec) -> None:
    """Refuse a replica whose weights alone are larger than what is free; blocks for a moment.

    Errors: `no_room`.
    """
    on_gpu = gpu_free_bytes() if spec.device != "cpu" else None
    free = memory_free_bytes() if on_gpu is None else on_gpu
    needed = needed_bytes(Path(spec.model_path), spec.weights, on_gpu=on_gpu is not None)
    if free is None or needed <= free:
        return
    where = "of this machine's memory" if on_gpu is None else "of its GPU's memory"
    text = (
        f"There is no room on the machine now: the weights need {needed / GIB:.1f} GiB, and {free / GIB:.1f} GiB"
        f" {where} is free. It starts by itself once there is room, and costs nothing until then."
    )
    raise AgentError(NO_ROOM, text, status=409)


def needed_bytes(folder: Path, form: str, *, on_gpu: bool) -> int:
    """The least that a checkpoint's weights take in a form: a GPU computes in sixteen bits, the processor in more."""
    whole = weights_bytes(folder)
    if form == CHECKPOINT and not on_gpu:
        return whole
    return (whole - _single_bytes(folder) // 2) * LEAST_PERCENT.get(form, 50) // 100


def _single_bytes(folder: Path) -> int:
    """How much of that has thirty-two bits each, as the files' headers say."""
    total = 0
    for file in folder.glob("*.safetensors"):
        try:
            with file.open("rb") as opened:
                header = json.loads(opened.read(min(int.from_bytes(opened.read(8), "little"), HEADER_BYTES)))
            ends = [one["data_offsets"] for one in header.values() if one.get("dtype") == "F32"]
            total += sum(end - start for start, end in ends)
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            continue  # the engine says what is wrong with it
    return total


def weights_bytes(folder: Path) -> int:
    """How large a checkpoint's weights are on the disk; 0 where there are none, which the engine reports."""
    try:
        return sum(file.stat().st_size for file in folder.glob("*.safetensors"))
    except OSError:
        return 0


def memory_free_bytes() -> int | None:
    """What may still be taken of the machine, or of the control group that we are in; None where nobody says."""
    try:
        lines = dict(line.split(":", 1) for line in MEMORY.read_text().splitlines() if ":" in line)
        machine = int(lines["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError, IndexError):
        return None
    group = ControlGroups().memory_bytes()
    return machine if group is None else min(machine, group)


def gpu_free_bytes() -> int | None:
    """The most that is free on one of the GPUs that engines may use; None where there is none."""
    try:
        return max(int(line) for line in _gpus(FREE)) * MIB
    except ValueError:
        return None


def device_text() -> str:
    """What engines compute on here, for people: the GPUs by name, else the processor with its cores."""
    if names := _gpus(NAME):
        return names[0] if len(names) == 1 else f"{len(names)} × {names[0]}"
    cores = ControlGroups().cores()
    return f"{_processor()}, {cores} core{'' if cores == 1 else 's'}"


def _processor() -> str:
    try:
        lines = CPU.read_text().splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, "") or machine()


def _gpus(query: str) -> list[str]:
    """What is said of each GPU that engines may use, some seconds ago at most; nothing where there is none."""
    tool = shutil.which("nvidia-smi")
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if tool is None or visible == "":
        return []
    asked = (tool, query, visible or "")
    # A replica that waits for room asks again with every sweep, and each time the tool takes the driver's lock.
    with _ASKING:
        said, until = _SAID.get(asked, ([], 0.0))
        if time.monotonic() >= until:
            said = _asked(*asked)
            _SAID[asked] = said, time.monotonic() + GPU_FRESH_S
        return said


def _asked(tool: str, query: str, visible: str) -> list[str]:
    chosen = ("-i", visible) if visible else ()
    try:
        said = subprocess.run(
            [tool, query, "--format=csv,noheader,nounits", *chosen],
            capture_output=True, text=True, check=True, timeout=GPU_TIMEOUT_S,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return []
    return [line.strip() for line in said.stdout.splitlines() if line.strip()]
