"""A small decoder on nothing but our kernels, its rows on the device and its steps overlapped: the serial runner's
tokens through prefills in chunks, a cached prefix and decodes."""

from pathlib import Path

import pytest
import torch

from kindling_core_rig import Rig, rig_make
from kindling_engine.core import kv_cache
from kindling_engine.protocol.sampling import Sampling
from kindling_on_kernels import kernels_everywhere
from kindling_tiny_models import model_make

SAMPLINGS = [
    Sampling(temperature=0.9, top_k=20, top_p=0.9, seed=3, ignore_eos=True),
    Sampling(temperature=0.8, repetition_penalty=1.4, seed=4, ignore_eos=True),
]


@pytest.mark.parametrize(
    ("name", "kv_dtype"),
    [("qwen3", "auto"), ("qwen3-moe", "auto"), ("gpt-oss", "auto"), ("qwen3", "fp8"), ("gpt-oss", "fp8")],
)
def test_a_decoder_on_kernels_makes_the_serial_runners_tokens(device, tmp_path, monkeypatch, name, kv_dtype):
    if device.type != "cpu":
        pytest.skip("on a GPU tests/engine/test_core_cuda.py does the same with graphs")
    # The interpreter is slow, and any scales do.
    monkeypatch.setattr(kv_cache, "_TOKENS", 16)
    folder = model_make(name, tmp_path / "model", num_hidden_layers=1, vocab_size=64)
    serial = _served(_rig(folder, tmp_path, kv_dtype))
    kernels_everywhere(monkeypatch)
    assert _served(_rig(folder, tmp_path, kv_dtype)) == serial


def _rig(folder: Path, blobs: Path, kv_dtype: str) -> Rig:
    return rig_make(folder, blobs, max_batch=2, step_tokens=16, kv_tokens=256, kv_dtype=kv_dtype)


def _served(rig: Rig) -> list[list[int]]:
    torch.manual_seed(0)
    shared = torch.randint(3, 64, (17,)).tolist()
    for index, sampling in enumerate(SAMPLINGS):
        rig.submit(str(index), [*shared, *range(5, 8 + index)], max_tokens=2, sampling=sampling)
        rig.turn()
    names = [str(index) for index in range(len(SAMPLINGS))]
    rig.run_until(*names)
    return [rig.tokens(name) for name in names]
