"""Captures of decode steps: what they share, and what is left where one fails. A graph is a call here, on a CPU."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from kindling_core_rig import Rig, rig_make
from kindling_engine.core import loops
from kindling_engine.kernels.capture import Capture
from kindling_engine.models import decoder_weights
from kindling_engine.runner import device_runner, graphs, slab_lora
from kindling_engine.runner.device_runner import DeviceRunner
from kindling_engine.runner.graphs import DecodeGraphs
from kindling_tiny_models import model_make
from kindling_torch_forms import kernel_sampler_in_torch, paged_attention_in_torch, slab_lora_in_torch


@pytest.fixture
def model(tmp_path, monkeypatch) -> Path:
    """Served as on a GPU, but for its kernels."""
    pytest.importorskip("triton")
    monkeypatch.setattr(loops, "WORKING_APART", {"cpu"})
    monkeypatch.setattr(decoder_weights, "paged_attention_for", paged_attention_in_torch)
    monkeypatch.setattr(slab_lora, "slab_lora_for", slab_lora_in_torch)
    monkeypatch.setattr(device_runner, "device_sampler_for", lambda device: kernel_sampler_in_torch())
    # What a replay overwrites has left the device before.
    monkeypatch.setattr(device_runner, "download", torch.Tensor.clone)
    return model_make("llama", tmp_path / "model")


def _rig(model: Path) -> Rig:
    return rig_make(model, model.parent, max_batch=6, step_tokens=64, kv_tokens=1024)


def _served(rig: Rig) -> list[list[int]]:
    names = [f"r{index}" for index in range(5)]
    for index, name in enumerate(names):
        rig.submit(name, list(range(3, 9 + 5 * index)), max_tokens=12)
    rig.run_until(*names)
    return [rig.tokens(name) for name in names]


class CallCapture:
    """Graphs that call what was captured, and put tokens where those of the capture are."""

    def __init__(self, device: torch.device) -> None:
        self.replays = 0

    def graph(self, work):
        def replay() -> None:
            self.replays += 1
            made.tokens.copy_(work().tokens)

        work()
        made = work()
        return SimpleNamespace(replay=replay), made


def test_logits_of_all_sizes_lie_in_one_place(model, monkeypatch):
    captures = []
    monkeypatch.setattr(
        graphs, "Capture", lambda device: captures.append(CallCapture(device)) or captures[-1]
    )
    rig = _rig(model)
    family = rig.core._parts.runner._graphs
    family.capture()
    outputs = [output for _, output in family._captured.values()]
    assert [len(output.logits) for output in outputs] == [6, 4, 2, 1]
    assert len({output.logits.untyped_storage().data_ptr() for output in outputs}) == 1
    assert all(len(output.tokens) == len(output.logits) for output in outputs)
    found = _served(rig)
    assert captures[0].replays > 0
    monkeypatch.undo()
    assert found == _served(_rig(model))


@pytest.mark.parametrize("failing", [0, 1])
def test_where_a_capture_fails_steps_run_without_graphs(failing, model, monkeypatch, caplog):
    """Of the family that failed and the one behind it; a compiler's errors are of any class."""
    tried = []

    class Failing(CallCapture):
        def graph(self, work):
            if self not in tried:
                tried.append(self)
            if tried.index(self) == failing:
                raise AssertionError("out of shared memory")
            return super().graph(work)

    monkeypatch.setattr(graphs, "Capture", Failing)
    rig = _rig(model)
    runner: DeviceRunner = rig.core._parts.runner
    on_gpu = SimpleNamespace(device=torch.device("cuda"))
    with monkeypatch.context() as patched:
        patched.setattr(runner, "_model", on_gpu)
        runner.capture()
    assert "launched operation by operation" in caplog.text and len(tried) == failing + 1
    assert bool(runner._graphs._captured) == bool(failing) and not runner._lora_graphs._captured
    found = _served(rig)
    monkeypatch.undo()
    assert found == _served(_rig(model))


def test_a_capture_that_cannot_be_ended_leaves_the_thread_on_its_stream(monkeypatch):
    """As torch behaves: its graph goes to the capture's stream, and comes back only behind an end that works."""
    streams = ["its own"]

    class Stream:
        def wait_stream(self, other) -> None:
            pass

    class Graph:
        def __init__(self, graph, *, pool, stream) -> None:
            self.stream = stream

        def __enter__(self) -> None:
            streams[0] = self.stream

        def __exit__(self, *error) -> None:
            raise RuntimeError("operation failed due to a previous error during capture")

    own = Stream()
    streams[0] = own
    for name, pretended in {
        "Stream": lambda device: Stream(),
        "current_stream": lambda device: streams[0],
        "set_stream": lambda stream: streams.__setitem__(0, stream),
        "stream": lambda stream: torch.inference_mode(),
        "graph_pool_handle": lambda: 0,
        "CUDAGraph": object,
        "graph": Graph,
    }.items():
        monkeypatch.setattr(torch.cuda, name, pretended)
    with pytest.raises(RuntimeError, match="during capture"):
        Capture().graph(lambda: None)
    assert streams[0] is own


def test_a_family_that_was_not_captured_runs_nothing(model):
    family = _rig(model).core._parts.runner._graphs
    assert isinstance(family, DecodeGraphs) and family.run(1) is None
