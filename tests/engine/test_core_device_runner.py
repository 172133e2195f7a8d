"""Rows on the device and overlapped steps make the tokens that the serial runner makes; here on a CPU, once with the
CPU's attention and once with everything a GPU runs but for the kernels themselves."""

import logging
import random
from collections.abc import Callable
from functools import cache
from itertools import count
from pathlib import Path

import pytest
import torch

from kindling_core_rig import Rig, rig_make
from kindling_engine.core import engine, loops
from kindling_engine.core.overlapped import OverlappedLoop
from kindling_engine.lora.loading import LoaderThread
from kindling_engine.models import decoder_weights
from kindling_engine.protocol.sampling import Sampling, Thinking
from kindling_engine.runner import device_runner, slab_lora
from kindling_engine.runner import runner as runner_base
from kindling_engine.runner.device_runner import DeviceRunner
from kindling_engine.runner.graphs import DecodeGraphs, bucket_for, bucket_sizes
from kindling_engine.runner.runner import RunnerPayload
from kindling_engine.sampling.params import SamplingParams
from kindling_engine.scheduler.plan import StepPlan
from kindling_engine.scheduler.request import Request
from kindling_tiny_models import VOCAB, adapter_make, model_make
from kindling_torch_forms import kernel_sampler_in_torch, paged_attention_in_torch, slab_lora_in_torch

SAMPLINGS = {
    "greedy": Sampling(temperature=0.0, ignore_eos=True),
    "seeded": Sampling(temperature=0.9, seed=7, ignore_eos=True),
    "filtered": Sampling(temperature=1.1, top_k=40, top_p=0.9, min_p=0.01, seed=8, ignore_eos=True),
    "penalised": Sampling(
        temperature=0.7,
        seed=9,
        repetition_penalty=1.3,
        frequency_penalty=0.4,
        presence_penalty=0.2,
        ignore_eos=True,
    ),
    "greedy and penalised": Sampling(temperature=0.0, repetition_penalty=1.5, ignore_eos=True),
    "biased": Sampling(temperature=0.8, seed=10, logit_bias={5: 4.0, 9: -8.0}, ignore_eos=True),
    "typical": Sampling(temperature=0.9, typical_p=0.7, seed=11, ignore_eos=True),
    "stops": Sampling(temperature=1.0, seed=12, stop_token_ids=list(range(0, VOCAB, 9)), min_tokens=4),
}
MODELS = ["llama", "qwen3", "mistral-window", "gemma2", "phi3", "llama-dynamic", "qwen3-moe"]


def work_ahead(form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run a CPU's decoders as a GPU's are; in the form ``pages`` with its attention and its sampler as well."""
    monkeypatch.setattr(loops, "WORKING_APART", {"cpu"})
    if form == "pages":
        pytest.importorskip("triton")
        monkeypatch.setattr(decoder_weights, "paged_attention_for", paged_attention_in_torch)
        monkeypatch.setattr(slab_lora, "slab_lora_for", slab_lora_in_torch)
        monkeypatch.setattr(device_runner, "device_sampler_for", lambda device: kernel_sampler_in_torch())
        # What a graph would replay, padding included.
        monkeypatch.setattr(DecodeGraphs, "run", lambda graphs, size: graphs._step(size))


@pytest.fixture
def ahead(request, monkeypatch) -> None:
    work_ahead(request.param, monkeypatch)


BOTH = pytest.mark.parametrize("ahead", ["rows", "pages"], indirect=True)


def _prompts(count: int) -> list[list[int]]:
    chance = random.Random(3)
    shared = [chance.randrange(3, VOCAB) for _ in range(40)]
    return [
        (shared if index % 2 else []) + [chance.randrange(3, VOCAB) for _ in range(1 + 7 * index)]
        for index in range(count)
    ]


def _served(rig: Rig, *, adapters: tuple[str, ...] = ("",), max_tokens: int = 24) -> dict[str, list]:
    """Submit a mixture bit by bit; what came of every request: tokens, and their log-probabilities where asked for."""
    names = []
    for turn, adapter in enumerate(adapters):
        for prompt, (kind, sampling) in zip(_prompts(len(SAMPLINGS)), SAMPLINGS.items(), strict=True):
            names.append(f"{turn}-{kind}")
            rig.submit(
                names[-1],
                prompt,
                adapter=adapter,
                max_tokens=max_tokens,
                sampling=sampling,
                logprobs=2 if kind == "seeded" and turn else -1,
            )
            rig.turn()
    rig.run_until(*names)
    served = {}
    for name in names:
        items = [item for item in rig.items() if item.id == name]
        assert not rig.end(name).error, rig.end(name)
        # Sums come out a little differently in another order.
        logprobs = [round(entry.logprob, 3) + 0.0 for item in items for entry in item.logprobs or ()]
        served[name] = [rig.tokens(name), rig.end(name).finish, logprobs]
    return served


def _rig(model: Path, tmp_path: Path, **options) -> Rig:
    options.setdefault("kv_tokens", 2048)
    return rig_make(model, tmp_path, max_batch=6, step_tokens=64, **options)


def _plans_watched(rig: Rig, monkeypatch) -> list:
    plans, plan_of = [], rig.core._scheduler.plan

    def watched(now_s: float):
        plan = plan_of(now_s)
        plans.extend([plan] if plan else [])
        return plan

    monkeypatch.setattr(rig.core._scheduler, "plan", watched)
    return plans


@pytest.fixture(scope="module")
def serially(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Path, dict[str, list]]]:
    """A model and what a CPU's own runner makes of the mixture; asked for while nothing is patched."""

    @cache
    def served(name: str) -> tuple[Path, dict[str, list]]:
        folder = tmp_path_factory.mktemp(name)
        rig = _rig(model_make(name, folder / "model"), folder)
        assert not isinstance(rig.core._loop, OverlappedLoop)
        return folder / "model", _served(rig)

    return served


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("form", ["rows", "pages"])
def test_tokens_are_those_of_the_serial_runner(name, form, serially, tmp_path, monkeypatch):
    model, expected = serially(name)
    work_ahead(form, monkeypatch)
    device = _rig(model, tmp_path)
    assert isinstance(device.core._loop, OverlappedLoop)
    assert isinstance(device.core._parts.runner, DeviceRunner)
    assert _served(device) == expected


@BOTH
def test_preemption_changes_no_token(ahead, tmp_path, monkeypatch):
    model = model_make("qwen3", tmp_path / "model")
    tight, roomy = _rig(model, tmp_path, kv_tokens=240), _rig(model, tmp_path)
    assert _served(tight, max_tokens=60) == _served(roomy, max_tokens=60)
    assert tight.core._scheduler.preemptions > 3
    while tight.core._scheduler.has_work:
        tight.turn()
    assert tight.core._parts.kv.pool.free_count == tight.core._parts.kv.pool.capacity


@BOTH
def test_adapters_run_beside_the_base(ahead, tmp_path, monkeypatch):
    model = model_make("llama", tmp_path / "model")
    adapter_make(model, tmp_path / "tuned", r=4, target_modules=["q_proj", "v_proj", "up_proj"])
    device = _served(_rig(model, tmp_path), adapters=("", "tuned"), max_tokens=10)
    monkeypatch.undo()
    assert device == _served(_rig(model, tmp_path), adapters=("", "tuned"), max_tokens=10)


@pytest.mark.parametrize("ahead", ["pages"], indirect=True)
def test_slabs_in_idle_blocks_of_the_cache_are_used_like_others(ahead, tmp_path):
    model = model_make("llama", tmp_path / "model", num_key_value_heads=4, head_dim=32)
    names = [f"a{index}" for index in range(4)]
    for seed, name in enumerate(names):
        adapter_make(model, tmp_path / name, seed=seed, r=96, target_modules=["q_proj", "v_proj"])

    def served(rig: Rig) -> list[list[int]]:
        for name in (*names, ""):
            rig.submit(f"r-{name}", _prompts(4)[3], adapter=name, max_tokens=30)
        rig.wait(lambda: all(rig.tokens(f"r-{name}") for name in names))
        for index in range(2):
            rig.submit(f"long{index}", [9 + index] * 250, max_tokens=20)
        asked = [*(f"r-{name}" for name in (*names, "")), "long0", "long1"]
        rig.run_until(*asked)
        return [rig.tokens(one) for one in asked]

    # In bf16, as a GPU would have it, the adapters would all fit; here they are fp32.
    lending, roomy = _rig(model, tmp_path, lora_mib=1, kv_tokens=768), _rig(model, tmp_path)
    assert lending.core._parts.runner._slab_adapters is not None
    assert served(lending) == served(roomy)
    loans = lending.core._parts.kv.loans
    assert loans.borrowed > 0 and loans.recalled > 0


@pytest.mark.parametrize("ahead", ["pages"], indirect=True)
def test_slots_are_used_where_slabs_hold_an_adapter_and_change_hands(ahead, tmp_path, monkeypatch):
    """Adapters take turns in a pool for two, beside one that no slab holds, and beside the base."""
    model = model_make("llama", tmp_path / "model")
    names = ["one", "two", "three", "four"]
    for seed, name in enumerate(names):
        adapter_make(model, tmp_path / name, seed=seed, r=150, target_modules=["q_proj", "v_proj", "up_proj"])
    adapter_make(model, tmp_path / "dora", r=4, use_dora=True, target_modules=["q_proj", "down_proj"])

    def served(rig: Rig) -> dict[str, list[int]]:
        for name in (*names, "dora", ""):
            rig.submit(f"r-{name}", _prompts(4)[3], adapter=name, max_tokens=30)
        rig.run_until(*(f"r-{name}" for name in (*names, "dora", "")))
        return {name: rig.tokens(f"r-{name}") for name in (*names, "dora", "")}

    # Who is in whose way does not depend on when a thread gets its turn.
    monkeypatch.setattr(LoaderThread, "read", LoaderThread._settle)
    tight, roomy = _rig(model, tmp_path, lora_mib=1, lora_borrow=0), _rig(model, tmp_path)
    slabs = tight.core._parts.runner._slab_adapters
    assert slabs is not None
    made, families = served(tight), []
    decode = DeviceRunner._decode
    monkeypatch.setattr(
        DeviceRunner,
        "_decode",
        lambda runner, plan, ordered, adapted: (
            families.append(adapted),
            decode(runner, plan, ordered, adapted=adapted),
        )[1],
    )
    assert made == served(roomy)
    assert tight.core._desk.stepped_back > 0
    for adapter in ("", "one"):
        families.clear()
        roomy.submit(f"alone-{adapter}", _prompts(2)[0], adapter=adapter, max_tokens=6)
        roomy.run_until(f"alone-{adapter}")
        assert set(families) == {bool(adapter)}, "a base-only step has a family of its own"
    monkeypatch.undo()
    assert made == served(_rig(model, tmp_path))


@pytest.mark.parametrize("ahead", ["pages"], indirect=True)
def test_a_prompts_step_is_launched_for_the_adapters_that_are_in_it(ahead, tmp_path, monkeypatch):
    """A pool has thousands of slots; only a captured step, which runs with any of them, must reckon with all."""
    model = model_make("llama", tmp_path / "model")
    for name in ("one", "two"):
        adapter_make(model, tmp_path / name, r=4, target_modules=["q_proj"])
    asked = []

    def watched(slabs):
        make = slab_lora_in_torch(slabs)
        return lambda slots, *others: (asked.append((len(slots), others[1])), make(slots, *others))[1]

    monkeypatch.setattr(slab_lora, "slab_lora_for", watched)
    rig = _rig(model, tmp_path)
    for name in ("one", "two"):
        rig.submit(f"r-{name}", _prompts(4)[3], adapter=name, max_tokens=4)
    rig.run_until("r-one", "r-two")
    prompts = [adapters for tokens, adapters in asked if tokens > 6]
    assert prompts and set(prompts) <= {1, 2}
    assert {adapters for tokens, adapters in asked if tokens == 1 or adapters is None} >= {None}


@BOTH
def test_what_a_step_zeroes_is_sent_without_a_wait(ahead, tmp_path, monkeypatch):
    rig = _rig(model_make("qwen3", tmp_path / "model"), tmp_path)
    sent = []
    upload = runner_base.upload_one
    monkeypatch.setattr(runner_base, "upload_one", lambda *one: (sent.append(one[0]), upload(*one))[1])
    runner = rig.core._parts.runner
    blocks = runner._storage._blocks.fill_(1.0)
    runner._prepare(StepPlan((), (), scrub=(2, 5), num_tokens=0))
    assert sent == [(2, 5)]
    assert (blocks == 0).all(dim=1).nonzero().flatten().tolist() == [2, 5]


@BOTH
def test_a_warm_up_reads_prompts_of_all_lengths_beside_decodes(ahead, tmp_path, monkeypatch):
    rig = _rig(model_make("qwen3", tmp_path / "model"), tmp_path)
    plans = _plans_watched(rig, monkeypatch)
    rig.core._scheduler.step_tokens = 48
    monkeypatch.setattr(engine, "step_tokens_for", lambda *measured: 48)
    rig.core.ready()
    mixed = [
        max(row.count for row in plan.rows)
        for plan in plans
        if {row.count == 1 for row in plan.rows} == {True, False}
    ]
    assert [count for count in mixed if count in {4, 8, 16, 32}] == [4, 8, 16, 32] and max(mixed) > 40
    assert not rig.core._scheduler.has_work and rig.core._parts.kv.pool.free_count > 0


@BOTH
def test_logits_of_every_token(ahead, tmp_path, monkeypatch):
    """As ``verify`` asks for them, prompt and decode."""
    model = model_make("gemma2", tmp_path / "model")
    found = []
    for _ in range(2):
        parts = _rig(model, tmp_path).core._parts
        request = Request("a", _prompts(4)[3], max_tokens=9, grant=9, payload=RunnerPayload(SamplingParams()))
        parts.scheduler.add(request, 0.0)
        logits = []
        while request.made < 4:
            plan = parts.scheduler.plan(0.0)
            logits.append(parts.runner.logits_all(plan))
            parts.scheduler.commit(plan, [7 for row in plan.rows if row.samples], 0.0)
        found.append(torch.cat(logits))
        monkeypatch.undo()
    torch.testing.assert_close(found[0], found[1], atol=1e-4, rtol=1e-4)


@BOTH
def test_a_constrained_row_waits_for_its_token_and_others_do_not(ahead, tmp_path, monkeypatch):
    model = model_make("qwen3", tmp_path / "model")
    thinking = Thinking(start_ids=[5], end_ids=[6, 7], budget=9, open=True)
    found = []
    for _ in range(2):
        rig = _rig(model, tmp_path)
        plans = _plans_watched(rig, monkeypatch)
        for name, more in (("bound", {"thinking": thinking}), ("free", {})):
            rig.submit(name, _prompts(2)[0], max_tokens=14, sampling=SAMPLINGS["seeded"], **more)
        rig.run_until("bound", "free")
        found.append([rig.tokens("bound"), rig.tokens("free")])
        if len(found) == 1:
            with_bound = [any(row.request.id == "bound" for row in plan.rows) for plan in plans]
            assert with_bound.count(False) >= 6, "nothing ran ahead of the constrained row"
        monkeypatch.undo()
    assert found[0] == found[1]
    assert found[0][0][9:11] == [6, 7]


@BOTH
def test_a_step_that_fails_is_made_good(ahead, tmp_path, monkeypatch):
    """It fails when the device has run it already, so that rows there are a step ahead of the host's."""
    logging.disable(logging.ERROR)
    model = model_make("qwen3", tmp_path / "model")
    rig, calm = _rig(model, tmp_path), _rig(model, tmp_path)
    runner, calls = rig.core._parts.runner, count(1)
    launch = runner.launch

    def sometimes(plan):
        launched = launch(plan)
        if len(plan.rows) > 1 and next(calls) % 5 == 0:
            raise RuntimeError("pretended")
        return launched

    monkeypatch.setattr(runner, "launch", sometimes)
    try:
        assert _served(rig) == _served(calm)
    finally:
        logging.disable(logging.NOTSET)
    assert next(calls) > 10


def test_buckets_reach_from_one_row_to_a_full_batch():
    assert bucket_sizes(1) == (1,)
    assert bucket_sizes(6) == (1, 2, 4, 6)
    assert bucket_sizes(64) == (1, 2, 4, *range(8, 65, 8))
    assert bucket_sizes(500)[-1] == 256
    assert [bucket_for(bucket_sizes(20), rows) for rows in (1, 3, 9, 17, 20)] == [1, 4, 16, 20, 20]
    assert bucket_for(bucket_sizes(500), 257) is None
