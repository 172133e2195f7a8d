"""The same core on a GPU, in bf16. First base and both example adapters in one batch, twice, the second time with the
prompt in the cache: each token it chose is nearly the best of an fp32 reference on the CPU. Then graphs, rows on the
device and overlapped steps.

How to run them where nothing is installed: docs/benchmarks/README.md.
"""

import random
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

import kindling_engine.starter as starter
from kindling_core_rig import Rig, rig_make
from kindling_engine.core.overlapped import OverlappedLoop
from kindling_engine.protocol.ipc import Cancel
from kindling_engine.protocol.sampling import Sampling
from kindling_engine.runner.device_runner import DeviceRunner
from kindling_engine.runner.graphs import DecodeGraphs
from kindling_engine.runner.runner import RunnerPayload
from kindling_engine.runner.transfer import Arrival, download, upload
from kindling_engine.sampling.params import SamplingParams
from kindling_engine.scheduler.request import Request
from kindling_tiny_models import VOCAB, model_make, reference_load
from kindling_tiny_models import reference_logits as fp32_logits

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
BF16_TOLERANCE = 0.03  # of the largest logit: bf16 keeps 8 bits, and four layers add up


def reference_logits(adapter: str, tokens: list[int]) -> torch.Tensor:
    import peft

    model = reference_load(starter.SPARK_PATH)
    if adapter:
        model = peft.PeftModel.from_pretrained(model, starter.ADAPTER_PATHS[adapter]).eval()
    with torch.inference_mode():
        return model(torch.tensor([tokens])).logits[0]


def test_a_mixed_batch_on_a_gpu_agrees_with_the_reference(tmp_path):
    from tokenizers import Tokenizer

    text = "Tell me a short story about a fox who wants to learn to sing by the sea."
    prompt = Tokenizer.from_file(str(starter.SPARK_PATH / "tokenizer.json")).encode(text).ids
    for name, folder in starter.ADAPTER_PATHS.items():
        shutil.copytree(folder, tmp_path / name)
    rig = rig_make(starter.SPARK_PATH, tmp_path, device="cuda")
    for turn in ("first", "second"):
        ids = {f"{turn}-{name}": name for name in ("", *starter.ADAPTER_PATHS)}
        for request_id, adapter in ids.items():
            rig.submit(request_id, prompt, adapter=adapter, max_tokens=24)
        rig.run_until(*ids)
        for request_id, adapter in ids.items():
            made = rig.tokens(request_id)
            assert len(made) == 24, rig.end(request_id)
            logits = reference_logits(adapter, prompt + made)[len(prompt) - 1 : -1]
            chosen = logits.gather(1, torch.tensor(made).unsqueeze(1)).squeeze(1)
            assert (logits.max(dim=-1).values - chosen <= BF16_TOLERANCE * logits.abs().max()).all(), (
                request_id
            )
    assert rig.end("second-").cached_tokens > 0


# Rows on the device, graphs and overlapped steps. Tiny models with random weights; nothing here knows how fast it is.

PLAIN = Sampling(temperature=0.0, ignore_eos=True)
FILTERED = Sampling(temperature=0.9, top_k=50, top_p=0.95, seed=3, ignore_eos=True)
PENALISED = Sampling(temperature=0.7, repetition_penalty=1.2, presence_penalty=0.3, seed=4, ignore_eos=True)
MODELS = ["llama", "qwen3", "mistral-window", "gemma2", "phi3", "llama-dynamic", "qwen3-moe"]


def _rig(model: Path, tmp_path: Path, **options) -> Rig:
    options = {"max_batch": 24, "step_tokens": 128, "kv_tokens": 8192, **options}
    return rig_make(model, tmp_path, device="cuda", **options)


def _submit(
    rig: Rig, count: int, *, max_tokens: int = 40, samplings: tuple[Sampling, ...] = (PLAIN,)
) -> list[str]:
    chance = random.Random(5)
    names = [f"r{index}" for index in range(count)]
    for index, name in enumerate(names):
        prompt = [chance.randrange(3, VOCAB) for _ in range(3 + 11 * index % 90)]
        rig.submit(name, prompt, max_tokens=max_tokens, sampling=samplings[index % len(samplings)])
    return names


def _served(rig: Rig, names: list[str]) -> dict[str, list[int]]:
    rig.run_until(*names)
    faults = [rig.end(name).error for name in names if rig.end(name).finish == "error"]
    assert not faults, faults
    return {name: rig.tokens(name) for name in names}


@pytest.mark.parametrize("name", MODELS)
def test_our_decoders_run_ahead_and_have_graphs(name, tmp_path):
    rig = _rig(model_make(name, tmp_path / "model"), tmp_path)
    assert isinstance(rig.core._loop, OverlappedLoop)
    runner = rig.core._parts.runner
    assert isinstance(runner, DeviceRunner) and not runner._host_rows
    assert sorted(runner._graphs._captured) == [1, 2, 4, 8, 16, 24]


@pytest.mark.parametrize("name", MODELS)
def test_a_graph_makes_the_tokens_of_the_same_step_without_one(name, tmp_path, monkeypatch):
    """The same kernels at the same sizes: not a token may differ, drawn ones included."""
    model, samplings = model_make(name, tmp_path / "model"), (PLAIN, FILTERED, PENALISED)
    with_graphs = _rig(model, tmp_path)
    found = _served(with_graphs, _submit(with_graphs, 21, samplings=samplings))
    monkeypatch.setattr(DecodeGraphs, "capture", lambda graphs: None)
    monkeypatch.setattr(DecodeGraphs, "run", lambda graphs, size: graphs._step(size))
    without = _rig(model, tmp_path)
    assert found == _served(without, _submit(without, 21, samplings=samplings))


@pytest.mark.parametrize("name", MODELS)
def test_logits_in_bf16_are_those_of_the_reference(name, tmp_path):
    """Every token's, through prefill in chunks and decodes, in one batch of unequal lengths."""
    model = model_make(name, tmp_path / "model")
    reference, parts = reference_load(model), _rig(model, tmp_path).core._parts
    chance = random.Random(6)
    requests = [
        Request(
            id=str(length),
            tokens=[chance.randrange(3, VOCAB) for _ in range(length)],
            max_tokens=99,
            grant=99,
            payload=RunnerPayload(SamplingParams()),
        )
        for length in (1, 16, 37, 150)
    ]
    logits: dict[str, list[torch.Tensor]] = {request.id: [] for request in requests}
    for request in requests:
        parts.scheduler.add(request, 0.0)
    while any(request.made < 5 for request in requests):
        plan = parts.scheduler.plan(0.0)
        found = parts.runner.logits_all(plan).float().cpu()
        for row, part in zip(plan.rows, found.split([row.count for row in plan.rows]), strict=True):
            logits[row.request.id].append(part)
        parts.scheduler.commit(plan, [9 + row.start % 50 for row in plan.rows if row.samples], 0.0)
    for request in requests:
        ours = torch.cat(logits[request.id])
        made = len(ours) - request.prompt_len
        expected = fp32_logits(reference, request.tokens[: len(ours)], made=made)
        assert (ours - expected).abs().max() <= BF16_TOLERANCE * expected.abs().max(), request.id


@pytest.mark.parametrize("name", ["qwen3", "qwen3-moe"])
def test_a_start_measures_configurations_and_the_next_one_reads_them(name, tmp_path, caplog):
    model = model_make(name, tmp_path / "model")
    said, tokens = [], []
    for _ in range(2):
        caplog.clear()
        with caplog.at_level("INFO"):
            rig = _rig(model, tmp_path, tune="full", tuned=tmp_path / "tuned")
        line = next(r.message for r in caplog.records if r.message.startswith("configurations of kernels"))
        said.append([int(count) for count in re.findall(r"(\d+) (?:read|measured|left|failed)", line)])
        tokens.append(_served(rig, _submit(rig, 21)))
    (read, measured, left, failed), again = said
    assert read == failed == 0 and measured > 10
    assert again[0] == measured and sum(again) == measured + left
    assert [len(made) for made in tokens[0].values()] == [40] * 21 and tokens[0].keys() == tokens[1].keys()


def test_steady_decode_waits_for_nothing_but_results(tmp_path):
    """Plan, launch and book with an error for every hidden wait; blocks are added on the way."""
    rig = _rig(model_make("qwen3", tmp_path / "model"), tmp_path)
    _submit(rig, 20, max_tokens=200, samplings=(PLAIN, FILTERED, PENALISED))
    rig.wait(lambda: all(rig.tokens(f"r{index}") for index in range(20)))
    for _ in range(8):
        rig.turn()
    torch.cuda.set_sync_debug_mode("error")
    try:
        before = len(rig.tokens("r0"))
        for _ in range(40):
            rig.turn()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert len(rig.tokens("r0")) == before + 40 and not rig.end("r0")


def test_preemption_and_cancels_under_load(tmp_path):
    model = model_make("qwen3", tmp_path / "model")
    roomy, tight = _rig(model, tmp_path), _rig(model, tmp_path, kv_tokens=900)
    expected = _served(roomy, _submit(roomy, 24, samplings=(FILTERED,)))
    names = _submit(tight, 24, samplings=(FILTERED,))
    cancelled = names[::5]
    for name in cancelled:
        for _ in range(3):
            tight.turn()
        tight.turn(Cancel(name))
    tight.run_until(*names)
    while tight.core._scheduler.has_work:
        tight.turn()
    scheduler, pool = tight.core._scheduler, tight.core._parts.kv.pool
    assert scheduler.preemptions > 0 and pool.free_count == pool.capacity
    assert scheduler.active == scheduler.waiting == 0
    for name in names:
        # A recomputed prompt is summed in another order, so a draw may differ; it starts alike, and is complete.
        made = tight.tokens(name)
        assert made[:1] == expected[name][:1]
        assert len(made) == 40 or (name in cancelled and tight.end(name).finish == "cancelled")


def test_numbers_arrive_whole_on_either_side():
    device = torch.device("cuda")
    arrays = [np.arange(5, dtype=np.int64), np.zeros(0, np.int32), np.ones((3, 2), np.float32)]
    for _ in range(50):
        sent = upload(arrays, device)
        back = [download(one * 2) for one in sent]
        Arrival(device).wait()
        for array, one in zip(arrays, back, strict=True):
            assert one.dtype == torch.from_numpy(array).dtype and (one.numpy() == array * 2).all()
