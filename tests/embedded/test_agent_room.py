"""No engine is started for weights that are larger than what is free; it waits, with the figures."""

import json
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from kindling_engine.protocol.replica import ReplicaSpec
from kindling_workers.agent import room
from kindling_workers.agent.errors import AgentError
from kindling_workers.agent.places import Places
from kindling_workers.agent.replicas import Replicas
from kindling_workers.agent.room import device_text, gpu_free_bytes, room_check, weights_bytes

ENGINE = Path(__file__).parents[1] / "support" / "kindling_tiny_engine.py"
GIB = 1024**3


def weights_make(folder: Path, dtype: str) -> Path:
    """Weights of eight GiB, which take no room on the disk."""
    folder.mkdir()
    tensor = {"dtype": dtype, "shape": [1], "data_offsets": [0, 4 * GIB]}
    header = json.dumps({"__metadata__": {"format": "pt"}, "weight": tensor}).encode()
    for name in ("model-1.safetensors", "model-2.safetensors"):
        (folder / name).write_bytes(len(header).to_bytes(8, "little") + header)
        os.truncate(folder / name, 4 * GIB)
    return folder


@pytest.fixture(autouse=True)
def asked_anew() -> None:
    room._SAID.clear()


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """As they are trained: thirty-two bits each."""
    return weights_make(tmp_path / "model", "F32")


def spec_of(model: Path, weights: str = "checkpoint", device: str = "cpu") -> ReplicaSpec:
    return ReplicaSpec("r", "d", 1, str(model), "m", weights=weights, device=device)


def test_weights_that_fit_in_no_form_are_refused_with_the_figures(
    model: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(room, "memory_free_bytes", lambda: 3 * GIB)
    assert weights_bytes(model) == 8 * GIB
    for form in ("checkpoint", "fp16"):
        with pytest.raises(AgentError) as refused:
            room_check(spec_of(model, form))
        assert (refused.value.code, refused.value.status) == ("no_room", 409)
    assert "the weights need 4.0 GiB, and 3.0 GiB of this machine's memory is free" in refused.value.message
    room_check(spec_of(model, "int8wo"))
    room_check(spec_of(model / "nowhere"))
    monkeypatch.setattr(room, "memory_free_bytes", lambda: None)
    room_check(spec_of(model))


def test_a_gpu_is_asked_where_there_is_one(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    tool = tmp_path / "nvidia-smi"
    tool.write_text(
        '#!/bin/sh\ncase "$*" in *memory.free*) printf "1024\\n5000\\n";; *) printf "H200\\nH200\\n";; esac\n'
    )
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert gpu_free_bytes() == 5000 * 1024 * 1024 and device_text() == "2 × H200"
    halves = weights_make(tmp_path / "halves", "BF16")
    for form in ("checkpoint", "fp16"):
        with pytest.raises(AgentError, match=r"need 8\.0 GiB, and 4\.9 GiB of its GPU's memory"):
            room_check(spec_of(halves, form, device="auto"))
        room_check(spec_of(model, form, device="auto"))  # a GPU computes in half of its bits
    room_check(spec_of(halves, "fp8", device="auto"))
    room._SAID.clear()
    tool.write_text("#!/bin/sh\nexit 9\n")
    assert gpu_free_bytes() is None and device_text().endswith(("core", "cores"))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert gpu_free_bytes() is None


def test_replicas_that_wait_do_not_each_ask_the_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    tool, asked = tmp_path / "nvidia-smi", tmp_path / "asked"
    tool.write_text(f'#!/bin/sh\necho "$*" >> {asked}\nsleep 0.1\nwc -l < {asked}\n')
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    with ThreadPoolExecutor(8) as threads:
        said = list(threads.map(lambda _: gpu_free_bytes(), range(8)))
    assert said == [1024 * 1024] * 8 and len(asked.read_text().splitlines()) == 1
    # Other GPUs are another question, and after a while so is the same one.
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    assert gpu_free_bytes() == 2 * 1024 * 1024 and "-i 1" in asked.read_text()
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    later = time.monotonic() + room.GPU_FRESH_S
    monkeypatch.setattr("kindling_workers.agent.room.time.monotonic", lambda: later)
    assert gpu_free_bytes() == 3 * 1024 * 1024


def test_this_machine_says_what_is_free():
    free = room.memory_free_bytes()
    assert free is not None and 0 < free < 2**50


async def test_nothing_is_started_until_there_is_room(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "logs").mkdir()
    replicas = Replicas(Places(tmp_path), (sys.executable, str(ENGINE)), 1.0)
    free = [GIB]
    monkeypatch.setattr(room, "memory_free_bytes", lambda: free[0])
    with pytest.raises(AgentError, match="no room"):
        await replicas.ensure(spec_of(model))
    assert replicas.list() == []
    free[0] = 9 * GIB
    status = await replicas.ensure(spec_of(model))
    # One that runs is left alone, whatever is free by now.
    free[0] = 0
    assert status.state == "starting" and (await replicas.ensure(spec_of(model))).name == "r"
    await replicas.stop_all()
