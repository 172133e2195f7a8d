"""Prefixes of models whose layers keep a state: what is found of them, and that it changes no logit and no token."""

from pathlib import Path
from typing import Any

import peft
import pytest
import torch

from kindling_backend_models import backend_model_make
from kindling_core_rig import GREEDY, rig_make
from kindling_engine.core import startup
from kindling_engine.kvcache import states
from kindling_engine.protocol.ipc import Submit
from kindling_parity import (
    adapters_settled,
    assert_greedy,
    assert_logits,
    engine_parts,
    forced_logits,
    prompt_make,
)
from kindling_tiny_models import reference_load, reference_logits

TEXT = prompt_make(150, 1)


class Tiny:
    def __init__(self, architecture: str, folder: Path, targets: list[str]) -> None:
        self.folder = backend_model_make(architecture, folder / "model")
        self.model = reference_load(self.folder)
        self.blobs = folder / "blobs"
        adapted = peft.get_peft_model(
            reference_load(self.folder), peft.LoraConfig(task_type="CAUSAL_LM", r=5, target_modules=targets)
        )
        torch.manual_seed(1)
        for name, parameter in adapted.named_parameters():
            if "lora_B" in name:
                parameter.data = 0.15 * torch.randn_like(parameter)
        adapted.save_pretrained(self.blobs / "style")
        self.adapted = adapted.eval()

    def parts(self, **options: Any):
        return engine_parts(self.folder, self.blobs, step_tokens=40, **options)


# A state beside attention, in the same layer as it, and one behind which tokens follow one by one.
@pytest.fixture(
    scope="module",
    params=[
        ("Qwen3NextForCausalLM", ["in_proj_qkvz", "out_proj", "q_proj"]),
        ("FalconH1ForCausalLM", ["in_proj", "q_proj"]),
        ("JambaForCausalLM", ["in_proj", "out_proj", "q_proj"]),
    ],
    ids=lambda param: param[0],
)
def tiny(request, tmp_path_factory) -> Tiny:
    torch.set_num_threads(1)
    return Tiny(request.param[0], tmp_path_factory.mktemp("tiny"), request.param[1])


@pytest.fixture(scope="module")
def delta(tmp_path_factory) -> Path:
    torch.set_num_threads(1)
    return backend_model_make("Qwen3NextForCausalLM", tmp_path_factory.mktemp("delta"))


def test_logits_behind_states_at_every_kind_of_border(tiny: Tiny, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(states, "_STRETCH", 3)
    parts = tiny.parts()
    cases = [
        ("first", TEXT, 0),
        ("near the end", TEXT, 128),
        ("goes on", TEXT + prompt_make(30, 2), 128),
        ("in the long stretch", TEXT[:110] + prompt_make(40, 3), 96),
        ("leaves it where none is kept", TEXT[:70] + prompt_make(40, 4), 0),
        ("leaves it at the same place", TEXT[:66] + prompt_make(20, 5), 64),
    ]
    for name, prompt, cached in cases:
        found = forced_logits(parts, {name: prompt})[name]
        assert len(found) == len(prompt) - cached, name
        assert_logits(found, reference_logits(tiny.model, prompt, 0)[cached:], name)


def test_adapters_and_salts_have_states_of_their_own(tiny: Tiny):
    parts = tiny.parts()
    assert not parts.adapters.acquire("style", tiny.blobs / "style", "style", 0.0)
    assert adapters_settled(parts.adapters)[0].error is None
    lengths = []
    for model, adapter in ((tiny.model, ""), (tiny.adapted, "style")) * 2:
        found = forced_logits(parts, {"one": TEXT}, {"one": adapter})["one"]
        lengths.append(len(found))
        assert_logits(found, reference_logits(model, TEXT, 0)[-len(found) :], adapter)
    assert lengths == [150, 150, 22, 22]


def test_a_turn_of_a_chat_costs_what_is_new(delta: Path, tmp_path: Path):
    """Behind an answer as far as its last border; where the answer is another one, behind the prompt it was for."""
    rig = rig_make(delta, tmp_path)
    first, beside = TEXT[:70], TEXT[80:141]
    for name, prompt in (("first", first), ("beside", beside)):
        rig.submit(name, prompt, max_tokens=40)
    rig.run_until("first", "beside")
    second = [*first, *rig.tokens("first"), *TEXT[70:90]]
    cases = {
        "second": (second, 96),
        "beside it": ([*beside, *rig.tokens("beside"), *TEXT[:20]], 96),
        "edited": ([*first[:69], 5, *TEXT[70:100]], 48),
        "apart": (second, 0),
    }
    model = reference_load(delta)
    for name, (prompt, cached) in cases.items():
        rig.submit(name, prompt, max_tokens=12, salt="another" if name == "apart" else "")
        rig.run_until(name)
        assert rig.end(name).cached_tokens == cached, name
        assert_greedy(model, prompt, rig.tokens(name))
    assert rig.tokens("apart") == rig.tokens("second")
    assert 4 < rig.core._current_stats().states < rig.core._current_stats().state_slots == 256


def test_the_answer_to_a_prompt_of_less_than_a_block_is_kept_too(delta: Path, tmp_path: Path):
    rig = rig_make(delta, tmp_path, max_batch=2)
    rig.submit("first", TEXT[:5], max_tokens=100)
    rig.run_until("first")
    rig.submit("next", TEXT[:5] + rig.tokens("first") + TEXT[5:9], max_tokens=2)
    rig.run_until("next")
    assert rig.end("next").cached_tokens == 96


def test_a_preempted_request_goes_on_from_a_state_that_is_left(delta: Path, tmp_path: Path):
    rig = rig_make(delta, tmp_path, kv_tokens=192, max_batch=2)
    scheduler, runner = rig.core._scheduler, rig.core._loop._runner
    launch, begun = runner.launch, []

    def noting(plan: Any) -> Any:
        rows = [row for row in plan.rows if row.states.source is not None]
        begun.extend((row.request.id, row.start) for row in rows)
        return launch(plan)

    runner.launch = noting
    prompts = {"first": TEXT[:60], "second": TEXT[80:140]}
    for name, prompt in prompts.items():
        rig.submit(name, prompt, max_tokens=60)
    rig.run_until(*prompts)
    assert scheduler.preemptions and begun == [("second", 32)]
    for name, prompt in prompts.items():
        assert rig.end(name).cached_tokens == 0
        assert_greedy(reference_load(delta), prompt, rig.tokens(name))


def test_choices_of_one_prompt_wait_for_its_state(delta: Path, tmp_path: Path):
    rig = rig_make(delta, tmp_path, step_tokens=40)
    names = [f"choice {index}" for index in range(3)]
    for name in names:
        rig.submit(name, TEXT, max_tokens=4)
    rig.run_until(*names)
    assert [rig.end(name).cached_tokens for name in names] == [0, 128, 128]
    assert len({tuple(rig.tokens(name)) for name in names}) == 1


def test_a_step_that_goes_on_from_a_kept_state_and_fails_runs_again(delta: Path, tmp_path: Path):
    rig = rig_make(delta, tmp_path)
    rig.submit("first", TEXT, max_tokens=20)
    rig.run_until("first")
    runner = rig.core._loop._runner
    launch, sources = runner.launch, []

    def failing(plan: Any) -> Any:
        launched = launch(plan)
        sources.append([row.states.source for row in plan.rows])
        if len(sources) == 1:
            raise RuntimeError("lost")
        return launched

    runner.launch = failing
    rig.turn(
        *(
            Submit(id=name, prompt_ids=prompt, max_tokens=20, grant=20, sampling=GREEDY)
            for name, prompt in (("again", TEXT), ("other", TEXT[40:60]))
        )
    )
    rig.run_until("again", "other")
    source = sources[0][0]
    assert source is not None and sources[:3] == [[source, None], [source], [None]]
    assert rig.end("again").cached_tokens == 128 and rig.tokens("again") == rig.tokens("first")


def test_slots_are_a_share_of_the_memory_and_none_is_like_no_prefixes(
    delta: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    kept = engine_parts(delta, tmp_path).config.state_bytes

    def slots(free: int, **options: Any) -> int:
        monkeypatch.setattr(startup, "_free_bytes", lambda _: free + 16 * kept)
        manager = engine_parts(delta, tmp_path, max_batch=8, **options).kv
        return 0 if manager.states is None else manager.states.slots.capacity

    assert slots(1 << 40) == 64
    assert slots(10 * 16 * kept) == 10
    assert slots(10 * 16 * kept, kv_tokens=512) == 10
    # Of what such a cache leaves a quarter, where nothing else is short.
    with monkeypatch.context() as ample:
        ample.setitem(startup._FREE_SHARE, "cpu", 1.0)
        assert slots(129 * 4096 + 8 * kept, kv_tokens=2048) == 2
    assert slots(140_000, kv_tokens=512) == 0
    rig = rig_make(delta, tmp_path, max_batch=8, kv_tokens=512)
    for name in ("first", "again"):
        rig.submit(name, TEXT, max_tokens=4)
        rig.run_until(name)
    assert rig.end("again").cached_tokens == 0 and rig.tokens("again") == rig.tokens("first")
