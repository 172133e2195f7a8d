"""Adapters against PEFT, in batches that mix base rows and several adapters."""

from pathlib import Path

import pytest
import torch

from kindling_core_rig import rig_make
from kindling_engine.core.options import CoreOptions
from kindling_engine.core.startup import parts_build
from kindling_engine.lora.errors import AdapterError
from kindling_engine.lora.loader import adapter_load
from kindling_engine.models.registry import model_load
from kindling_engine.scheduler.request import Request
from kindling_parity import adapters_settled
from kindling_tiny_models import VOCAB, adapter_make, model_make, reference_load

TOLERANCE = 1e-4
ALL = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
ADAPTERS = {
    "all-linear": {"r": 8, "lora_alpha": 16, "target_modules": ALL},
    "attention": {"r": 3, "lora_alpha": 7, "target_modules": ["q_proj", "v_proj"]},
    "stabilised": {"r": 16, "lora_alpha": 8, "target_modules": ["k_proj", "up_proj"], "use_rslora": True},
    "patterns": {
        "r": 4,
        "lora_alpha": 4,
        "target_modules": ALL,
        "rank_pattern": {"q_proj": 2, "model.layers.1.mlp.down_proj": 9},
        "alpha_pattern": {"k_proj": 12, "^model.layers.0.self_attn.o_proj": 1, "layers.2.mlp.up_proj": 20},
    },
    "one-layer": {"r": 5, "lora_alpha": 5, "target_modules": ["down_proj"], "layers_to_transform": [1]},
}


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> tuple[Path, Path]:
    """A model with query norms and grouped heads, and a blob folder of adapters."""
    folder = tmp_path_factory.mktemp("lora")
    model = model_make("qwen3", folder / "model")
    for seed, (name, config) in enumerate(ADAPTERS.items()):
        adapter_make(model, folder / "blobs" / name, seed=seed + 1, **config)
    return model, folder / "blobs"


def _prompt(length: int, seed: int) -> list[int]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(3, VOCAB, (length,), generator=generator).tolist()


def _peft(model: Path, adapter: Path | None):
    import peft

    base = reference_load(model)
    return base if adapter is None else peft.PeftModel.from_pretrained(base, adapter).eval()


def test_logits_match_peft_in_one_mixed_batch(world, tmp_path):
    model, blobs = world
    parts = parts_build(
        CoreOptions(
            tmp_path / "unused", model, "tiny", blobs, device="cpu", threads=1, step_tokens=64, max_batch=32
        ),
        wake=lambda: None,
    )
    names = ["", *ADAPTERS]
    for name in ADAPTERS:
        assert not parts.adapters.acquire(name, blobs / name, name, 0.0)
    settled = adapters_settled(parts.adapters, len(ADAPTERS))
    assert {one.adapter for one in settled if one.error is None} == set(ADAPTERS)
    requests = []
    for round_, length in enumerate((1, 20, 47)):
        for index, name in enumerate(names):
            tokens = _prompt(length, 50 * round_ + index)
            requests.append(Request(f"{round_}/{name}", tokens, max_tokens=3, grant=3, adapter=name))
            assert parts.scheduler.add(requests[-1], float(len(requests))) is None
    seen: dict[str, list[torch.Tensor]] = {request.id: [] for request in requests}
    mixed = 0
    while parts.scheduler.has_work:
        plan = parts.scheduler.plan(0.0)
        mixed = max(mixed, len({row.request.adapter for row in plan.rows}))
        logits = parts.runner.logits_all(plan)
        for row, part in zip(plan.rows, logits.split([row.count for row in plan.rows]), strict=True):
            seen[row.request.id].append(part)
        parts.scheduler.commit(plan, [9 for row in plan.rows if row.samples], 0.0)
    assert mixed == len(names)
    for name in names:
        reference = _peft(model, blobs / name if name else None)
        for request in requests:
            if request.adapter == name:
                with torch.inference_mode():
                    expected = reference(torch.tensor([request.tokens[:-1]])).logits[0]
                ours = torch.cat(seen[request.id])
                assert (ours - expected).abs().max() <= TOLERANCE * expected.abs().max(), request.id


def test_greedy_tokens_match_peft_generate(world):
    model, blobs = world
    rig = rig_make(model, blobs, max_batch=16)
    prompts = {name: _prompt(20, index) for index, name in enumerate(["", *ADAPTERS])}
    for name, tokens in prompts.items():
        rig.submit(f"r-{name}", tokens, adapter=name, max_tokens=12)
    rig.run_until(*(f"r-{name}" for name in prompts))
    for name, tokens in prompts.items():
        reference = _peft(model, blobs / name if name else None)
        made = rig.tokens(f"r-{name}")
        with torch.inference_mode():
            logits = reference(torch.tensor([tokens + made])).logits[0, len(tokens) - 1 : -1]
        chosen = logits.gather(1, torch.tensor(made).unsqueeze(1)).squeeze(1)
        assert (logits.max(dim=-1).values - chosen <= TOLERANCE * logits.abs().max()).all()
    outputs = {tuple(rig.tokens(f"r-{name}")) for name in ("", "all-linear", "patterns")}
    assert len(outputs) == 3, "the adapters change nothing, so this proves nothing"


def test_a_base_only_step_runs_no_adapter_code(world, monkeypatch):
    model, blobs = world
    rig = rig_make(model, blobs)
    rig.submit("warm", _prompt(4, 1), adapter="attention", max_tokens=1)
    rig.run_until("warm")
    lora = []
    forward = rig.core._parts.runner._model.forward
    monkeypatch.setattr(
        rig.core._parts.runner._model,
        "forward",
        lambda inputs: (lora.append(inputs.lora), forward(inputs))[1],
    )
    rig.submit("base", _prompt(9, 2), max_tokens=4)
    rig.run_until("base")
    assert lora == [None] * 4
    rig.submit("one", _prompt(9, 3), adapter="attention", max_tokens=2)
    rig.submit("two", _prompt(9, 4), max_tokens=2)
    rig.run_until("one", "two")
    # In the last step with both, "one" decodes a token while "two" reads its nine.
    mixed = next(batch for batch in reversed(lora) if batch is not None)
    assert [group.spans for group in mixed.groups] == [((0, 1),)], "base rows are in no group"


def test_caches_of_base_and_adapters_are_apart(world):
    model, blobs = world
    rig = rig_make(model, blobs)
    tokens = _prompt(40, 5)
    for request_id, adapter in (
        ("a", ""),
        ("b", "attention"),
        ("c", "all-linear"),
        ("d", "attention"),
        ("e", ""),
    ):
        rig.submit(request_id, tokens, adapter=adapter, max_tokens=6)
        rig.run_until(request_id)
    assert [rig.end(request_id).cached_tokens for request_id in "abcde"] == [0, 0, 0, 32, 32]
    assert rig.tokens("b") == rig.tokens("d") and rig.tokens("a") == rig.tokens("e")


def test_an_adapter_that_does_not_fit_is_refused_by_its_size(world):
    model, blobs = world
    device, dtype = torch.device("cpu"), torch.float32
    loaded = model_load(model, device=device, dtype=dtype)

    def load(max_bytes: int):
        return adapter_load(
            blobs / "attention",
            loaded.lora,
            architecture=loaded.config.architecture,
            vocab_size=loaded.config.vocab_size,
            base_ref="t",
            max_bytes=max_bytes,
            device=device,
            dtype=dtype,
        )

    size = load(1 << 30).weights.size_bytes
    assert load(size).weights.size_bytes == size
    with pytest.raises(AdapterError) as caught:
        load(size - 1)
    assert caught.value.code == "size"
