"""The decoder against transformers: same logits, same greedy tokens, in every way a batch can be put together."""

from pathlib import Path

import pytest
import torch

from kindling_core_rig import rig_make
from kindling_engine.core.options import CoreOptions
from kindling_engine.core.startup import parts_build
from kindling_engine.kvcache.manager import PAGE_SIZE
from kindling_engine.models.errors import ModelError
from kindling_engine.models.registry import model_load
from kindling_engine.scheduler.request import Request
from kindling_tiny_models import FAMILIES, VOCAB, model_make, reference_load

TOLERANCE = 1e-4


@pytest.fixture(scope="module", params=FAMILIES)
def checkpoint(request, tmp_path_factory) -> Path:
    return model_make(request.param, tmp_path_factory.mktemp(request.param))


def _prompt(length: int, seed: int) -> list[int]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(3, VOCAB, (length,), generator=generator).tolist()


def _reference_logits(model, tokens: list[int]) -> torch.Tensor:
    with torch.inference_mode():
        return model(torch.tensor([tokens])).logits[0]


def _assert_close(ours: torch.Tensor, reference: torch.Tensor) -> None:
    assert (ours - reference).abs().max() <= TOLERANCE * reference.abs().max()


def _assert_greedy(model, prompt: list[int], made: list[int]) -> None:
    """Every token is the reference's best, or within rounding of it."""
    logits = _reference_logits(model, prompt + made)[len(prompt) - 1 : -1]
    best = logits.max(dim=-1).values
    chosen = logits.gather(1, torch.tensor(made).unsqueeze(1)).squeeze(1)
    assert ((best - chosen) <= TOLERANCE * logits.abs().max()).all()
    clear = logits.topk(2).values.diff().abs().squeeze(1) > TOLERANCE * logits.abs().max()
    assert clear.float().mean() > 0.9, "the random model gives hardly any clear choice"


@pytest.mark.parametrize("step_tokens", [512, 24])
def test_teacher_forced_logits(checkpoint, tmp_path, step_tokens):
    """Whole prompts of different lengths in one batch, at once and in chunks that mix with each other."""
    model = reference_load(checkpoint)
    parts = parts_build(
        CoreOptions(
            tmp_path / "unused", checkpoint, "t", tmp_path, device="cpu", step_tokens=step_tokens, max_batch=8
        ),
        wake=lambda: None,
    )
    prompts = {f"p{length}": _prompt(length, length) for length in (1, 2, 16, 17, 33, 100)}
    for name, tokens in prompts.items():
        parts.scheduler.add(Request(name, list(tokens), max_tokens=1, grant=1), 0.0)
    collected: dict[str, list[torch.Tensor]] = {name: [] for name in prompts}
    while parts.scheduler.has_work:
        plan = parts.scheduler.plan(0.0)
        logits = parts.runner.logits_all(plan)
        for row, part in zip(plan.rows, logits.split([row.count for row in plan.rows]), strict=True):
            collected[row.request.id].append(part)
        parts.scheduler.commit(plan, [5 for row in plan.rows if row.samples], 0.0)
    for name, tokens in prompts.items():
        _assert_close(torch.cat(collected[name]), _reference_logits(model, tokens))


def test_greedy_tokens_in_a_mixed_batch(checkpoint, tmp_path):
    """Requests that come and go, prompts in chunks beside decodes, a cached prefix, and preemptions."""
    model = reference_load(checkpoint)
    rig = rig_make(checkpoint, tmp_path, step_tokens=40, kv_tokens=320, max_batch=6)
    shared = _prompt(48, 7)
    prompts = {f"r{index}": _prompt(length, index) for index, length in enumerate((3, 70, 16, 130, 31))}
    prompts |= {f"s{index}": [*shared, *_prompt(9, 100 + index)] for index in range(3)}
    for name, tokens in prompts.items():
        rig.submit(name, tokens, max_tokens=40)
        rig.turn()
    rig.run_until(*prompts)
    for name, tokens in prompts.items():
        made = rig.tokens(name)
        assert len(made) == 40
        _assert_greedy(model, tokens, made)
    cached = [rig.end(f"s{index}").cached_tokens for index in range(3)]
    assert max(cached) == 3 * PAGE_SIZE


def test_preemption_really_happened_and_changed_nothing(checkpoint, tmp_path):
    prompts = {f"r{index}": _prompt(20, index) for index in range(4)}
    roomy = rig_make(checkpoint, tmp_path)
    tight = rig_make(checkpoint, tmp_path, kv_tokens=128)
    preempted = []
    drop = tight.core._scheduler._preempt
    tight.core._scheduler._preempt = lambda *args: (preempted.append(args[0].id), drop(*args))
    for rig in (roomy, tight):
        for name, tokens in prompts.items():
            rig.submit(name, tokens, max_tokens=40)
        rig.run_until(*prompts)
    assert preempted
    assert {name: roomy.tokens(name) for name in prompts} == {name: tight.tokens(name) for name in prompts}


def test_a_prompt_asked_twice_is_cached_and_answered_alike(checkpoint, tmp_path):
    rig = rig_make(checkpoint, tmp_path)
    tokens = _prompt(60, 3)
    for name in ("first", "second"):
        rig.submit(name, tokens, max_tokens=20)
        rig.run_until(name)
    rig.submit("salted", tokens, max_tokens=20, salt="other")
    rig.run_until("salted")
    assert [rig.end(name).cached_tokens for name in ("first", "second", "salted")] == [0, 48, 0]
    assert rig.tokens("first") == rig.tokens("second") == rig.tokens("salted")


def test_generates_up_to_the_whole_context(tmp_path):
    folder = model_make("llama", tmp_path, max_position_embeddings=40)
    rig = rig_make(folder, tmp_path)
    tokens = _prompt(30, 1)
    rig.submit("a", tokens, max_tokens=50)
    rig.run_until("a")
    assert rig.end("a").finish == "length" and len(rig.tokens("a")) == 10
    _assert_greedy(reference_load(folder), tokens, rig.tokens("a"))


def test_bf16_checkpoints_are_widened_on_a_cpu(tmp_path):
    import transformers

    folder = model_make("llama", tmp_path / "wide")
    narrow = tmp_path / "narrow"
    transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16).save_pretrained(narrow)
    rig = rig_make(narrow, tmp_path)
    tokens = _prompt(20, 1)
    rig.submit("a", tokens)
    rig.run_until("a")
    _assert_greedy(reference_load(narrow), tokens, rig.tokens("a"))


def test_what_cannot_be_served_is_refused_by_name(tmp_path):
    import json

    folder = model_make("llama", tmp_path)
    config = json.loads((folder / "config.json").read_text())
    device, dtype = torch.device("cpu"), torch.float32

    def refusal(**changes) -> ModelError:
        (folder / "config.json").write_text(json.dumps(config | changes))
        with pytest.raises(ModelError) as caught:
            model_load(folder, device=device, dtype=dtype)
        return caught.value

    assert refusal(architectures=["GPT2LMHeadModel"]).code == "unsupported_model"
    assert "longrope" in refusal(rope_parameters={"rope_type": "longrope", "factor": 2.0}).message
    assert refusal(hidden_act="quick_gelu").code == "unsupported_model"
    assert refusal(intermediate_size=96).code == "weights_shape"
    assert refusal(num_hidden_layers=9).code == "weights_missing"
    assert refusal(hidden_size=None).code == "model_config"
    (folder / "model.safetensors").write_bytes(b"\xff" * 64)
    assert refusal().code == "weights_unreadable"
    (folder / "model.safetensors").unlink()
    assert refusal().code == "weights_missing"
