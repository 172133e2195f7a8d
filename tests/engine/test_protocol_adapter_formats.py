"""PEFT's formats of LoRA by their names and shapes: what fits is described, what does not is refused."""

import json
from dataclasses import replace
from typing import Any

import pytest

from kindling_adapter_headers import BASE, CONFIG, Header, check, data_bytes, failed, header_of, tensors
from kindling_engine.models.registry import FAMILIES
from kindling_engine.protocol.adapter_base import DECODERS
from kindling_engine.protocol.adapter_files import (
    AdapterReport,
    BaseShape,
    check_config,
    check_safetensors_header,
)


@pytest.mark.parametrize(
    "change",
    [
        {"target_modules": ["q_proj"]},
        {"target_modules": r".*\.q_proj"},
        {"target_modules": "(a+)+$"},
        {"exclude_modules": ["down_proj"]},
        {"exclude_modules": r".*\.2\.mlp.*"},
        {"layers_to_transform": [0, 1], "layers_pattern": ["layers"]},
    ],
)
def test_what_the_config_leaves_out_may_not_be_in_the_file(change: dict[str, Any]):
    report = check(tensors(), CONFIG | change)
    assert failed(report) == {"target_modules"}
    assert any("does not name" in finding.message for finding in report.findings)


def with_magnitudes(header: Header, *, wide: int = 0) -> Header:
    """A DoRA header: one magnitude for each row of the weight."""
    result, offset = dict(header), data_bytes(header)
    for name, entry in header.items():
        if "lora_B" in name:
            width = entry["shape"][0] + wide
            magnitude = name.replace("lora_B.weight", "lora_magnitude_vector")
            offsets = [offset, offset + 4 * width]
            result[magnitude] = {"dtype": "F32", "shape": [width], "data_offsets": offsets}
            offset += 4 * width
    return result


def test_magnitudes_belong_to_dora_alone():
    report = check(with_magnitudes(tensors()), CONFIG | {"use_dora": True})
    assert report.ok, report.findings
    assert report.parameters == check(tensors(), CONFIG).parameters + 3 * (64 + 64)
    assert failed(check(with_magnitudes(tensors()), CONFIG)) == {"tensor_shapes"}
    assert failed(check(tensors(), CONFIG | {"use_dora": True})) == {"tensor_shapes"}
    wide = with_magnitudes(tensors(), wide=1)
    assert failed(check(wide, CONFIG | {"use_dora": True})) == {"tensor_shapes"}
    described = check_config(json.dumps(CONFIG | {"use_dora": True, "use_rslora": True}).encode(), BASE)
    said = " ".join(finding.message for finding in described.findings)
    assert "DoRA" in said and "rsLoRA" in said and "alpha 16" in said


OPEN = BaseShape.of_catalog(
    {"hidden_size": 64, "intermediate_size": 112, "num_layers": 3, "heads": 4, "kv_heads": 2, "head_dim": 16},
    architecture="OlmoForCausalLM",
    vocab_size=320,
    ref="acme/open",
)
MIXER = CONFIG | {"target_modules": ["in_proj"]}


def test_the_decoders_whose_layers_are_known_are_those_with_code_of_ours():
    assert set(FAMILIES) == DECODERS
    assert OPEN.open and not BASE.open


def test_layers_of_other_models_are_as_an_adapter_says():
    fits = header_of(mixer__in_proj__lora_A__weight=[8, 40], mixer__in_proj__lora_B__weight=[200, 8])
    report = check(fits, MIXER, OPEN)
    assert report.ok and report.target_modules == ["in_proj"], report.findings
    assert any("an engine compares them" in finding.message for finding in report.findings)
    assert failed(check(fits, MIXER)) == {"target_modules"}
    assert check_config(json.dumps(MIXER).encode(), OPEN).ok
    assert failed(check_config(json.dumps(MIXER).encode(), BASE)) == {"target_modules"}


@pytest.mark.parametrize(
    ("shapes", "wrong"),
    [
        ({"in_proj__lora_A__weight": [8, 40], "in_proj__lora_B__weight": [200, 9]}, "tensor_shapes"),
        ({"in_proj__lora_A__weight": [8, 40]}, "tensor_shapes"),
        ({"in_proj__lora_B__weight": [200, 8]}, "tensor_shapes"),
        ({"in_proj__lora_A__weight": [8], "in_proj__lora_B__weight": [200, 8]}, "tensor_shapes"),
        ({"in_proj__weight": [8, 40]}, "target_modules"),
        ({"out_proj__lora_A__weight": [8, 40], "out_proj__lora_B__weight": [200, 8]}, "target_modules"),
    ],
)
def test_matrices_for_them_still_have_to_fit_each_other_and_the_config(
    shapes: dict[str, list[int]], wrong: str
):
    assert wrong in failed(check(header_of(**shapes), MIXER, OPEN))


TABLE = {
    "model__embed_tokens__lora_embedding_A": [8, 320],
    "model__embed_tokens__lora_embedding_B": [64, 8],
}
WHOLE = {"model__embed_tokens__base_layer__weight": [320, 64], "lm_head__base_layer__weight": [320, 64]}
TOP = {"lm_head__lora_A__weight": [8, 64], "lm_head__lora_B__weight": [320, 8]}


def test_table_and_head_take_adapters_and_may_carry_the_bases_weight():
    config = CONFIG | {"target_modules": ["embed_tokens", "lm_head"]}
    report = check(header_of(**TABLE, **TOP), config)
    assert report.ok and report.target_modules == ["embed_tokens", "lm_head"], report.findings
    whole = check(header_of(**TABLE, **TOP, **WHOLE), config)
    assert whole.ok and whole.parameters == report.parameters == 2 * 8 * (320 + 64)
    tied = CONFIG | {"target_modules": ["model.embed_tokens"]}
    assert failed(check(header_of(**TABLE, **TOP), tied)) == {"target_modules"}
    assert check(header_of(**TABLE, **TOP), tied | {"ensure_weight_tying": True}).ok
    other = WHOLE | {"model__embed_tokens__base_layer__weight": [321, 64]}
    assert failed(check(header_of(**TABLE, **TOP, **other), config)) == {"tensor_shapes"}


MIXTURE = BaseShape(
    "Qwen3MoeForCausalLM", 64, 112, 3, 4, 2, 16, 320, "acme/tiny", num_experts=6, expert_size=40
)
FUSED = {
    "model__layers__0__mlp__experts__base_layer__lora_A__weight": [24, 64],
    "model__layers__0__mlp__experts__base_layer__lora_B__weight": [80, 24],
    "model__layers__0__mlp__experts__lora_A__weight": [12, 40],
    "model__layers__0__mlp__experts__lora_B__weight": [64, 12],
    "model__layers__0__mlp__gate__lora_A__weight": [2, 64],
    "model__layers__0__mlp__gate__lora_B__weight": [6, 2],
}
SINGLE = {
    "model__layers__0__mlp__experts__5__up_proj__lora_A__weight": [2, 64],
    "model__layers__0__mlp__experts__5__up_proj__lora_B__weight": [40, 2],
}
EXPERTS = CONFIG | {
    "r": 2,
    "rank_pattern": {r".*\.gate_up_proj": 4},
    "target_modules": ["q_proj"],
    "target_parameters": ["gate_up_proj", "down_proj", "gate.weight"],
}


def check_mixture(
    shapes: dict[str, list[int]], config: dict[str, Any], base: BaseShape = MIXTURE
) -> AdapterReport:
    header = header_of(**shapes)
    raw = json.dumps(header).encode()
    return check_safetensors_header(raw, 8 + len(raw) + data_bytes(header), base, config)


def test_experts_and_routers_take_adapters():
    assert check_config(json.dumps(EXPERTS).encode(), MIXTURE).ok
    report = check_mixture(FUSED, EXPERTS)
    assert report.ok, report.findings
    assert report.target_modules == ["down_proj", "gate", "gate_up_proj"] and report.rank == 4
    single = check_mixture(SINGLE, CONFIG | {"r": 2, "target_modules": ["up_proj"]})
    assert single.ok and single.target_modules == ["up_proj"], single.findings


JOINED = replace(MIXTURE, architecture="GptOssForCausalLM")


def test_experts_in_which_gate_and_up_take_turns_are_adapted_all_at_once():
    config = EXPERTS | {"target_parameters": ["gate_up_proj", "down_proj", "mlp.router.weight"]}
    named = {name.replace("__gate__", "__router__"): shape for name, shape in FUSED.items()}
    report = check_mixture(named, config, JOINED)
    assert report.ok and report.target_modules == ["router", "gate_up_proj", "down_proj"], report.findings
    # Lists for any model name layers of an MLP; a file with matrices for them is another matter.
    usual = CONFIG | {"r": 2, "target_modules": ["q_proj", "gate_proj", "up_proj"]}
    assert check_config(json.dumps(usual).encode(), JOINED).ok
    assert failed(check_mixture(SINGLE, usual, JOINED)) == {"target_modules"}
    assert failed(check_mixture(FUSED, EXPERTS, JOINED)) == {"target_modules"}, "its router has another name"
    dense = {"model__layers__0__mlp__up_proj__lora_A__weight": [2, 64]}
    dense |= {"model__layers__0__mlp__up_proj__lora_B__weight": [112, 2]}
    assert failed(check_mixture(dense, usual, JOINED)) == {"target_modules"}


def test_experts_that_do_not_fit_are_refused():
    for name, shape in (
        ("experts__lora_A", [13, 40]),
        ("experts__lora_A", [12, 41]),
        ("gate__lora_B", [7, 2]),
    ):
        wrong = FUSED | {f"model__layers__0__mlp__{name}__weight": shape}
        assert failed(check_mixture(wrong, EXPERTS)) == {"tensor_shapes"}, name
    seven = {
        name.replace("13", "12"): [13, shape[1]] if "A" in name else [shape[0], 13]
        for name, shape in list(FUSED.items())[2:4]
    }
    assert failed(check_mixture(seven, EXPERTS)) == {"tensor_shapes"}, "6 experts do not share 13 ranks"
    both = EXPERTS | {"target_modules": ["up_proj"]}
    assert failed(check_mixture(FUSED | SINGLE, both)) == {"tensor_shapes"}
    beyond = {name.replace("__5__", "__6__"): shape for name, shape in SINGLE.items()}
    assert failed(check_mixture(beyond, CONFIG | {"r": 2, "target_modules": ["up_proj"]})) == {
        "target_modules"
    }
    assert failed(check_mixture(FUSED, EXPERTS, BASE)) == {"target_modules"}
