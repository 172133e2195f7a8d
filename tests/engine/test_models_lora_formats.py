"""Every format of PEFT's LoRA against PEFT itself, in one batch of base rows and adapters of all formats and ranks."""

import json
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from safetensors.torch import load_file, save_file

from kindling_core_rig import rig_make
from kindling_engine.core.startup import Parts
from kindling_engine.lora.batch import LoraBatch
from kindling_engine.protocol.adapter_files import BaseShape, check_adapter_folder
from kindling_parity import (
    adapters_settled,
    assert_greedy,
    assert_logits,
    engine_parts,
    forced_logits,
    prompt_make,
)
from kindling_tiny_models import adapter_make, model_make, reference_load, reference_logits

LEAST_SHIFT = 0.02
ATTENTION = ["q_proj", "k_proj", "v_proj", "o_proj"]
ALL = [*ATTENTION, "gate_proj", "up_proj", "down_proj"]
ENDS = ["embed_tokens", "lm_head"]
FORMATS: dict[str, dict[str, dict[str, Any]]] = {
    # Query norms, and a head of its own.
    "qwen3": {
        "rank-1": {"r": 1, "target_modules": ALL},
        "rank-256": {"r": 256, "target_modules": ["q_proj", "down_proj"]},
        "rslora": {"r": 16, "target_modules": ALL, "use_rslora": True},
        "dora": {"r": 4, "target_modules": ALL, "use_dora": True, "lora_alpha": 10},
        "dora-one-of-three": {"r": 4, "target_modules": ["k_proj", "up_proj"], "use_dora": True},
        "ends": {"r": 3, "target_modules": [*ENDS, "q_proj"]},
        "dora-ends": {"r": 5, "target_modules": ENDS, "use_dora": True, "use_rslora": True},
        "expression": {
            "r": 4,
            "target_modules": r".*\.(?:self_attn|mlp)\.(q|down)_proj",
            "rank_pattern": {r".*\.[01]\..*q_proj": 9, "down_proj": 2},
            "alpha_pattern": {r"layers\.\d\.mlp\..*": 3, "^model.layers.2.self_attn.q_proj": 50},
        },
        "layers": {
            "r": 6,
            "target_modules": ALL,
            "layers_to_transform": [0, 2],
            "layers_pattern": "layers",
            "exclude_modules": ["v_proj"],
        },
        "bf16": {"r": 8, "target_modules": ALL, "dtype": torch.bfloat16},
        "fp16": {"r": 8, "target_modules": ALL, "use_dora": True, "dtype": torch.float16},
    },
    "llama-bias": {"dora": {"r": 4, "target_modules": ALL, "use_dora": True}},
    # One table for both ends.
    "llama": {
        "table": {"r": 2, "target_modules": ["embed_tokens"]},
        "head": {"r": 3, "target_modules": ["lm_head", "q_proj"]},
        "both": {"r": 2, "target_modules": ENDS},
        "tied": {"r": 4, "target_modules": ["embed_tokens", "v_proj"], "ensure_weight_tying": True},
        "tied-head": {"r": 2, "target_modules": ["lm_head"], "ensure_weight_tying": True},
    },
    # Embeddings are scaled, and logits capped.
    "gemma3": {
        "table": {"r": 3, "target_modules": ["embed_tokens", "q_proj"]},
        "dora": {"r": 3, "target_modules": [*ENDS, "down_proj"], "use_dora": True},
    },
    "gemma3-vision": {
        "dora": {"r": 3, "target_modules": r".*language_model.*\.(q_proj|embed_tokens)", "use_dora": True}
    },
    "phi3": {"dora": {"r": 3, "target_modules": ["qkv_proj", "o_proj", "gate_up_proj"], "use_dora": True}},
    "qwen3-moe": {
        "all-linear": {"r": 3, "target_modules": "all-linear"},
        "gate-up": {"r": 9, "target_modules": ["q_proj"], "target_parameters": ["mlp.experts.gate_up_proj"]},
        "down": {"r": 2, "target_modules": [], "target_parameters": ["down_proj"], "use_rslora": True},
        "router": {"r": 2, "target_modules": ["gate", "k_proj"], "alpha_pattern": {"gate.weight": 30}},
        "dora": {"r": 2, "target_modules": [*ATTENTION, "embed_tokens"], "use_dora": True},
        "experts": {
            "r": 2,
            "target_modules": ["v_proj"],
            "target_parameters": ["gate_up_proj", "down_proj"],
            "alpha_pattern": {r".*\.0\.mlp.*down_proj": 40, "experts.gate_up_proj": 3},
        },
    },
    # Experts in which gate and up take turns; names of an MLP that is not there are passed over.
    "gpt-oss": {
        "all-linear": {"r": 3, "target_modules": "all-linear"},
        "gate-up": {"r": 9, "target_modules": ALL, "target_parameters": ["mlp.experts.gate_up_proj"]},
        "down": {"r": 2, "target_modules": [], "target_parameters": ["down_proj"], "use_rslora": True},
        "router": {"r": 2, "target_modules": ["k_proj"], "target_parameters": ["mlp.router.weight"]},
        "dora": {"r": 2, "target_modules": [*ATTENTION, "embed_tokens"], "use_dora": True},
        "experts": {
            "r": 2,
            "target_modules": ["v_proj"],
            "target_parameters": ["0.mlp.experts.gate_up_proj", "2.mlp.experts.down_proj"],
            "alpha_pattern": {r".*\.0\.mlp.*down_proj": 40, "experts.gate_up_proj": 3},
        },
    },
}


def _make(folder: Path, adapter: Path, *, seed: int, dtype: torch.dtype | None = None, **config: Any) -> None:
    adapter_make(folder, adapter, seed=seed, **config)
    if dtype is not None:
        weights = adapter / "adapter_model.safetensors"
        save_file({name: tensor.to(dtype) for name, tensor in load_file(weights).items()}, weights)


def _load(parts: Parts, folder: Path, *names: str) -> dict[str, str]:
    """Load adapters, and say what is wrong with those that do not."""
    for name in names:
        assert not parts.adapters.acquire(name, folder / name, name, 0.0)
    settled = adapters_settled(parts.adapters, len(names))
    return {one.adapter: f"{one.error.code}: {one.error.message}" for one in settled if one.error is not None}


def _catalog_shape(folder: Path) -> BaseShape:
    """The base as the platform knows it, from its config alone."""
    whole = json.loads((folder / "config.json").read_text())
    config = whole.get("text_config", whole)
    heads = config["num_attention_heads"]
    shapes = {
        "hidden_size": config["hidden_size"],
        "intermediate_size": config["intermediate_size"],
        "num_layers": config["num_hidden_layers"],
        "heads": heads,
        "kv_heads": config["num_key_value_heads"],
        "head_dim": config.get("head_dim") or config["hidden_size"] // heads,
    }
    experts = config.get("num_local_experts") or config.get("num_experts")
    if experts:
        size = config.get("moe_intermediate_size", config["intermediate_size"])
        shapes |= {"experts": experts, "expert_size": size}
    architecture = whole["architectures"][0]
    return BaseShape.of_catalog(
        shapes, architecture=architecture, vocab_size=config["vocab_size"], ref="tiny"
    )


def _compare(folder: Path, blobs: Path, names: list[str]) -> dict[str, float]:
    """One batch of all adapters and the base against PEFT, adapter by adapter; gives how far each is from the base, of
    its largest logit.
    """
    shifts: dict[str, float] = {}
    parts = engine_parts(folder, blobs, step_tokens=48, kv_tokens=2048, max_batch=32)
    for name in names:
        report = check_adapter_folder(blobs / name, _catalog_shape(folder))
        assert report.ok, f"without the model, {name} is refused: {report.findings}"
    assert _load(parts, blobs, *names) == {}
    prompts = {(name, length): prompt_make(length, length) for name in ["", *names] for length in (2, 33)}
    ours = forced_logits(
        parts,
        {f"{name}/{length}": tokens for (name, length), tokens in prompts.items()},
        {f"{name}/{length}": name for name, length in prompts if name},
    )
    for name in ["", *names]:
        model = reference_load(folder)
        if name:
            model = peft.PeftModel.from_pretrained(model, blobs / name).eval()
        for length in (2, 33):
            expected = reference_logits(model, prompts[name, length])
            assert_logits(ours[f"{name}/{length}"], expected, f"{name}, {length} tokens")
        if name:
            shifts[name] = float((expected - ours["/33"]).abs().max() / expected.abs().max())
    return shifts


@pytest.mark.parametrize("name", FORMATS)
def test_logits_are_those_of_peft(tmp_path: Path, name: str):
    folder = model_make(name, tmp_path / "model")
    for seed, (adapter, config) in enumerate(FORMATS[name].items()):
        _make(folder, tmp_path / adapter, seed=seed, **config)
    shifts = _compare(folder, tmp_path, list(FORMATS[name]))
    assert shifts.keys() == FORMATS[name].keys()
    assert min(shifts.values()) > LEAST_SHIFT, "one changes nothing, so this proves nothing"


def _apart(adapter: Path, *, halves: tuple[str, ...] = ("gate_proj", "up_proj", "down_proj")) -> None:
    """Write an adapter of experts anew as PEFT did for a transformers that kept each expert's layers by themselves."""
    config = json.loads((adapter / "adapter_config.json").read_text())
    config |= {"target_modules": ["q_proj", "gate", *halves], "target_parameters": None}
    config |= {"rank_pattern": {}, "alpha_pattern": {}}
    (adapter / "adapter_config.json").write_text(json.dumps(config))
    tensors = load_file(adapter / "adapter_model.safetensors")
    for layer in (0, 2):
        at = f"base_model.model.model.layers.{layer}.mlp.experts"
        for fused in ("base_layer.", ""):
            a, b = (tensors.pop(f"{at}.{fused}lora_{side}.weight") for side in "AB")
            names = [half for half in halves if (half == "down_proj") is not bool(fused)]
            rank = a.shape[0] // 6
            for expert, one in enumerate(a.view(6, rank, -1)):
                grown = b.view(b.shape[0], rank, 6)[:, :, expert]
                for half, name in enumerate(names):
                    ranks = slice(half * rank // len(names), (half + 1) * rank // len(names))
                    rows = slice(half * len(grown) // len(names), (half + 1) * len(grown) // len(names))
                    tensors[f"{at}.{expert}.{name}.lora_A.weight"] = one[ranks].clone()
                    tensors[f"{at}.{expert}.{name}.lora_B.weight"] = grown[rows, ranks].clone()
    save_file(tensors, adapter / "adapter_model.safetensors")


def test_experts_by_themselves_are_those_of_peft(tmp_path: Path):
    folder = model_make("qwen3-moe", tmp_path / "model")
    targets = ["q_proj", "gate", "gate_proj", "up_proj", "down_proj"]
    adapter_make(folder, tmp_path / "old", r=5, lora_alpha=7, target_modules=targets)
    _apart(tmp_path / "old")
    adapter_make(folder, tmp_path / "new", r=3, target_modules=targets)
    names = load_file(tmp_path / "old" / "adapter_model.safetensors")
    assert "base_model.model.model.layers.2.mlp.experts.5.up_proj.lora_A.weight" in names
    shifts = _compare(folder, tmp_path, ["old", "new"])
    assert min(shifts.values()) > LEAST_SHIFT


@pytest.mark.parametrize(("name", "targets"), [("qwen3", [*ENDS, "q_proj"]), ("qwen3-moe", "all-linear")])
def test_greedy_tokens_and_scores_of_prompts_are_those_of_peft(tmp_path: Path, name: str, targets: Any):
    """Here only some rows have logits, and those of prompts are made apart."""
    folder = model_make(name, tmp_path / "model")
    adapter_make(folder, tmp_path / "blobs" / "a", r=4, target_modules=targets)
    rig = rig_make(folder, tmp_path / "blobs", max_batch=8, step_tokens=24)
    prompts = {
        f"{adapter or 'base'}{n}": (adapter, prompt_make(n, n)) for n in (3, 30, 41) for adapter in ("", "a")
    }
    for key, (adapter, tokens) in prompts.items():
        rig.submit(key, tokens, adapter=adapter, max_tokens=10, prompt_logprobs=1)
    rig.run_until(*prompts)
    base = reference_load(folder)
    adapted = peft.PeftModel.from_pretrained(reference_load(folder), tmp_path / "blobs" / "a").eval()
    for key, (adapter, tokens) in prompts.items():
        model = adapted if adapter else base
        assert_greedy(model, tokens, rig.tokens(key))
        expected = reference_logits(model, tokens).log_softmax(-1)[:-1]
        scores = next(item.prompt_logprobs for item in rig.items() if item.id == key and item.prompt_logprobs)
        found = torch.tensor([score.logprob for score in scores if score is not None])
        assert (found - expected.gather(1, torch.tensor(tokens[1:])[:, None])[:, 0]).abs().max() < 1e-4
    assert rig.tokens("a41") != rig.tokens("base41"), "the adapter changes nothing, so this proves nothing"


def test_adapters_of_every_kind_keep_bits_in_the_batch_invariant_mode(tmp_path: Path):
    folder = model_make("qwen3-moe", tmp_path / "model")
    adapter_make(folder, tmp_path / "a", r=3, target_modules="all-linear")
    adapter_make(folder, tmp_path / "b", r=3, target_modules=[*ENDS, "q_proj"], use_dora=True)
    bits = []
    prompts = {f"{adapter}{n}": prompt_make(n, n) for n in (1, 17, 40) for adapter in "ab"}
    for step_tokens in (13, 512):
        parts = engine_parts(folder, tmp_path, step_tokens=step_tokens, kv_tokens=2048, batch_invariant=True)
        assert _load(parts, tmp_path, "a", "b") == {}
        bits.append(forced_logits(parts, prompts, {key: key[0] for key in prompts}))
    assert all(torch.equal(bits[0][key], bits[1][key]) for key in prompts)


def test_a_base_only_step_calls_nothing_of_adapters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    folder = model_make("qwen3-moe", tmp_path / "model")
    adapter_make(folder, tmp_path / "a", r=2, target_modules=["q_proj", "gate", *ENDS])
    parts = engine_parts(folder, tmp_path, kv_tokens=512)
    assert _load(parts, tmp_path, "a") == {}
    calls: list[str] = []

    def counted(name: str, real: Any) -> Any:
        def call(*arguments: Any) -> Any:
            calls.append(name)
            return real(*arguments)

        return call

    for name in ("add", "add_head", "add_table", "shares", "at_rows", "_add"):
        monkeypatch.setattr(LoraBatch, name, counted(name, getattr(LoraBatch, name)))
    forced_logits(parts, {"base": prompt_make(9, 1)})
    assert calls == []
    forced_logits(parts, {"base": prompt_make(9, 1), "adapted": prompt_make(9, 1)}, {"adapted": "a"})
    assert {"add", "add_head", "add_table", "shares"} <= set(calls)


def _changed(adapter: Path, name: str, change: Any) -> None:
    weights = adapter / "adapter_model.safetensors"
    tensors = load_file(weights)
    save_file(tensors | {name: change(tensors[name])}, weights)


def test_what_does_not_go_with_the_base_is_refused_by_name(tmp_path: Path):
    folder = model_make("qwen3", tmp_path / "model")
    for name in ("trained-along", "rounded", "not-a-number"):
        adapter_make(folder, tmp_path / name, r=2, target_modules=["embed_tokens", "q_proj"], use_dora=True)
    table, query = "base_model.model.model.embed_tokens", "base_model.model.model.layers.0.self_attn.q_proj"
    _changed(tmp_path / "trained-along", f"{table}.base_layer.weight", lambda weight: weight + 0.01)
    _changed(tmp_path / "rounded", f"{table}.base_layer.weight", lambda weight: weight.bfloat16())
    _changed(tmp_path / "not-a-number", f"{query}.lora_magnitude_vector", lambda weight: weight / 0)
    wrong = _load(
        engine_parts(folder, tmp_path, kv_tokens=64), tmp_path, "trained-along", "rounded", "not-a-number"
    )
    assert set(wrong) == {"trained-along", "not-a-number"}
    assert wrong["trained-along"].startswith("base_model: ") and "embed_tokens" in wrong["trained-along"]
    assert wrong["not-a-number"].startswith("values: ") and "q_proj" in wrong["not-a-number"]


def test_a_base_that_has_gone_is_named(tmp_path: Path):
    folder = model_make("qwen3", tmp_path / "model")
    adapter_make(folder, tmp_path / "dora", r=2, target_modules=["q_proj"], use_dora=True)
    adapter_make(folder, tmp_path / "plain", r=2, target_modules=["q_proj"])
    parts = engine_parts(folder, tmp_path, kv_tokens=64)
    folder.rename(tmp_path / "elsewhere")
    wrong = _load(parts, tmp_path, "dora", "plain")
    assert list(wrong) == ["dora"] and "not there any more" in wrong["dora"]


def test_one_expert_of_a_high_rank_is_counted_as_all(tmp_path: Path):
    """A small file that would take the room of many times its size is refused before that room is taken."""
    folder = model_make("qwen3-moe", tmp_path / "model")
    for name, layers in (("one", [0]), ("two", [0, 2])):
        (tmp_path / name).mkdir()
        config = {"peft_type": "LORA", "r": 256, "lora_alpha": 1, "target_modules": ["up_proj"]}
        (tmp_path / name / "adapter_config.json").write_text(json.dumps(config))
        tensors = {}
        for layer in layers:
            at = f"base_model.model.model.layers.{layer}.mlp.experts.3.up_proj"
            tensors |= {
                f"{at}.lora_A.weight": torch.ones(256, 64),
                f"{at}.lora_B.weight": torch.ones(40, 256),
            }
        save_file(tensors, tmp_path / name / "adapter_model.safetensors")
    size = 4 * 6 * 256 * (64 + 80)
    assert size < 1 << 20 < 2 * size
    parts = engine_parts(folder, tmp_path, kv_tokens=64, lora_mib=1)
    wrong = _load(parts, tmp_path, "two", "one")
    assert list(wrong) == ["two"] and wrong["two"].startswith("size: ")
    weights = parts.adapters.weights("one")
    experts = weights.experts[0].gate_up
    assert experts is not None
    assert weights.size_bytes == experts.shrink.nbytes + experts.expand.nbytes == size
