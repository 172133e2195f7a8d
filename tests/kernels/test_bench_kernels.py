"""The bench of kernels on tiny shapes: every operation is checked against its reference before it is timed."""

import json
from dataclasses import replace

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from kindling_engine.bench.kernel.ceilings import Ceilings
from kindling_engine.bench.kernel.decode_problems import decode_problems
from kindling_engine.bench.kernel.layer_problems import gate_problems, rope_problems
from kindling_engine.bench.kernel.lora_problems import lora_problems
from kindling_engine.bench.kernel.norm_problems import norm_problems
from kindling_engine.bench.kernel.prefill_problems import prefill_problems
from kindling_engine.bench.kernel.product_problems import MoeShape, moe_problems
from kindling_engine.bench.kernel.sampling_problems import sampling_problems
from kindling_engine.bench.kernels import figures_of
from kindling_engine.kernels.clock import ROTATED_BYTES, EagerClock, copies_for
from kindling_engine.kernels.norms import CONFIGS
from kindling_engine.kernels.paged_inputs import Shape
from kindling_engine.lora.slab_layout import SiteShape

CEILINGS = Ceilings(read_gbps=4000.0, copy_gbps=3500.0, tflops=700.0)
ROW = {
    "op", "shape", "dtype", "us", "fraction_of_ceiling", "best_peer", "peer_us", "max_error", "config", "peers",
    "why_not",
}  # fmt: skip
OPS = {
    "rms_norm", "add_rms_norm", "silu_mul", "qk_norm_rope_kv_write", "decode_attention", "prefill_attention",
    "sample_greedy", "sample_plain", "sample_filtered", "sparse_mlp",
    "lora_add", "lora_segment",
}  # fmt: skip


class _OneLaunch(EagerClock):
    """An interpreted launch takes long enough to be counted once."""

    def us(self, launches) -> float:
        return super().us(launches[:1])


def _problems(device):
    """Two sets of inputs at most, whatever the caches hold, and one configuration."""
    dtype, heads = torch.float32, Shape(2, 1, 32)
    # Of fp32, flash attention is the CPU's alone.
    wanted = {"torch"} if device.type == "cuda" else {"torch", "sdpa flash"}
    for problems in (
        norm_problems(device, dtype, rows=(2,), hidden=(64,)),
        gate_problems(device, dtype, rows=(2,), inner=(48,)),
        rope_problems(device, dtype, rows=(2,), heads=4, kv_heads=2),
        decode_problems(device, dtype, shapes=(heads,), loads=((2, 20),), q_len=2),
        prefill_problems(device, dtype, shape=heads, loads=((2, 20, 20), (1, 5, 30))),
        sampling_problems(device, rows=(1,), vocab=300),
        moe_problems(device, dtype, rows=(3,), shape=MoeShape(64, 32, 4, 2)),
        lora_problems(device, dtype, sites={"qkv": SiteShape(32, 0, (32, 16, 16))}, loads=((4, 2),), rank=4),
    ):
        for problem in problems:
            peers = {name: make for name, make in problem.peers.items() if name in wanted}
            yield replace(problem, configs=problem.configs[:1], bytes_read=float(ROTATED_BYTES), peers=peers)


def test_a_row_for_each_problem_with_every_key(device):
    figures = json.loads(json.dumps(figures_of(_problems(device), CEILINGS, _OneLaunch())))
    assert figures["failed"] == {}
    assert {row["op"] for row in figures["rows"]} == OPS
    for row in figures["rows"]:
        assert set(row) == ROW
        assert row["us"] > 0 and row["max_error"] < 1e-5
        # Where queries begin behind a request's first key, torch has no fused kernel.
        if not row["why_not"] and row["peers"]:
            assert row["best_peer"] in {"torch", "sdpa flash"} and row["peer_us"] > 0
        assert all("behind the first key" in reason for reason in row["why_not"].values()), row["why_not"]
    assert sum(bool(row["peers"]) for row in figures["rows"]) >= 6


def test_a_kernel_that_computes_something_else_has_no_row_but_a_reason(device):
    problem = next(iter(_problems(device)))
    wrong = replace(problem, ours=lambda one, config: problem.ours(one, config) * 1.01)
    figures = figures_of([wrong], CEILINGS, EagerClock())
    assert figures["rows"] == []
    assert "computes what its reference does" in figures["failed"]["rms_norm 2 × 64 float32"]


def test_a_problem_that_nobody_foresaw_costs_no_other_its_row(device):
    def impossible(index):
        raise AssertionError("no slot")

    first, second = list(_problems(device))[:2]
    figures = figures_of([replace(first, inputs=impossible), second], CEILINGS, _OneLaunch())
    assert list(figures["failed"].values()) == ["no slot"] and len(figures["rows"]) == 1


def test_a_peer_that_fails_or_errs_is_named_and_not_timed(device):
    def absent(one):
        raise ImportError("no such wheel")

    problem = next(iter(_problems(device)))
    peers = {"absent": absent, "wrong": lambda one: lambda: one.x * 2}
    (row,) = figures_of([replace(problem, peers=peers)], CEILINGS, EagerClock())["rows"]
    assert row["best_peer"] is None and row["peer_us"] is None and row["peers"] == {}
    assert row["why_not"]["absent"] == "ImportError: no such wheel"
    assert "off by" in row["why_not"]["wrong"]


def test_peers_in_torch_wait_for_nothing(device):
    """A result whose size its numbers decide is waited for, and cannot be captured."""
    waiting = {torch.Tag.dynamic_output_shape, torch.Tag.data_dependent_output}
    launched = []

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            launched.append((str(func), not waiting.isdisjoint(func.tags)))
            return func(*args, **(kwargs or {}))

    for problem in _problems(device):
        launches = [make(problem.inputs(0)) for name, make in problem.peers.items() if name == "torch"]
        with Watch():
            for launch in launches:
                launch()
    assert launched and [name for name, waits in launched if waits] == []


def test_the_ceiling_is_that_of_memory_or_of_arithmetic():
    copying = CEILINGS.us(bytes_read=3.5e9, bytes_written=3.5e9, flops=1.0)
    assert copying == pytest.approx(2000)
    assert CEILINGS.us(bytes_read=4e9, bytes_written=0.0, flops=0.0) == pytest.approx(1000)
    assert CEILINGS.us(bytes_read=5.0, bytes_written=1.0, flops=7e14) == pytest.approx(1e6)


def test_enough_sets_of_inputs_to_pass_the_cache_and_no_more():
    assert copies_for(ROTATED_BYTES / 8) == 8
    assert copies_for(ROTATED_BYTES * 3) == 2
    assert copies_for(1.0) == 64
    assert len(CONFIGS) > 1
