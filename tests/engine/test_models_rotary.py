"""Rotary scalings against transformers' own, in both spellings of config.json."""

import itertools

import pytest
import torch

from kindling_engine.layers.rotary_scaling import dynamic_frequencies, inverse_frequencies
from kindling_engine.models.config_fields import ConfigFields
from kindling_engine.models.rotary_fields import context_length, rotary_read

DIM, LENGTH = 32, 4096
CPU = torch.device("cpu")
LLAMA3 = {"low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 512}
SCALINGS = {
    "default": {"rope_type": "default"},
    "linear": {"rope_type": "linear", "factor": 2.5},
    "dynamic": {"rope_type": "dynamic", "factor": 3.0},
    "llama3": {"rope_type": "llama3", "factor": 8.0, **LLAMA3},
    "llama3-trained": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0},
    "yarn": {"rope_type": "yarn", "factor": 4.0},
    "yarn-original": {"rope_type": "yarn", "factor": 16.0, "original_max_position_embeddings": 256},
    "yarn-attention": {"rope_type": "yarn", "factor": 4.0, "attention_factor": 0.8},
    "yarn-mscale": {"rope_type": "yarn", "factor": 40.0, "mscale": 1.0, "mscale_all_dim": 0.7},
    "yarn-one-mscale": {"rope_type": "yarn", "factor": 40.0, "mscale": 0.707},
    "yarn-betas": {"rope_type": "yarn", "factor": 4.0, "beta_fast": 64, "beta_slow": 2, "truncate": False},
    "yarn-step": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 8},
}


def _theirs(scaling: dict, theta: float):
    import transformers
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    config = transformers.LlamaConfig(
        rope_parameters={"rope_theta": theta, **scaling},
        max_position_embeddings=LENGTH,
        hidden_size=4 * DIM,
        num_attention_heads=4,
    )
    if scaling["rope_type"] == "default":
        from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

        return config, LlamaRotaryEmbedding.compute_default_rope_parameters(config)
    return config, ROPE_INIT_FUNCTIONS[scaling["rope_type"]](config, CPU)


def _ours(tmp_path, fields: dict):
    read = ConfigFields(tmp_path, {"max_position_embeddings": LENGTH, **fields}, "LlamaForCausalLM")
    return rotary_read(read, dim=DIM), read


@pytest.mark.parametrize(("name", "theta"), list(itertools.product(SCALINGS, [10000.0, 500000.0])))
def test_angles_are_those_of_transformers_in_both_spellings(tmp_path, name, theta):
    scaling = SCALINGS[name]
    _, (inverse, attention_factor) = _theirs(dict(scaling), theta)
    renamed = {key: value for key, value in scaling.items() if key != "rope_type"}
    spellings = [
        {"rope_parameters": {"rope_theta": theta, **scaling}},
        {"rope_theta": theta, "rope_scaling": scaling},
        {"rope_theta": theta, "rope_scaling": {"type": scaling["rope_type"], **renamed}},
    ]
    read = [_ours(tmp_path, fields)[0] for fields in spellings]
    assert read[0] == read[1] == read[2]
    torch.testing.assert_close(inverse_frequencies(read[0], CPU), inverse, rtol=1e-6, atol=0)
    assert read[0].attention_factor == pytest.approx(attention_factor)


@pytest.mark.parametrize("length", [1, LENGTH - 1, LENGTH, LENGTH + 1, 3 * LENGTH])
def test_dynamic_angles_grow_with_the_sequence(tmp_path, length):
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    config, _ = _theirs(dict(SCALINGS["dynamic"]), 10000.0)
    expected, _ = ROPE_INIT_FUNCTIONS["dynamic"](config, CPU, seq_len=length)
    ours, _ = _ours(tmp_path, {"rope_scaling": SCALINGS["dynamic"]})
    got = dynamic_frequencies(ours, torch.tensor([length, 5, length]))
    torch.testing.assert_close(got[0], expected, rtol=1e-6, atol=0)
    torch.testing.assert_close(got[2], expected, rtol=1e-6, atol=0)
    torch.testing.assert_close(got[1], inverse_frequencies(ours, CPU), rtol=1e-6, atol=0)


def test_longrope_within_its_original_length(tmp_path):
    import transformers
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    short = [1.0 + index / 10 for index in range(DIM // 2)]
    scaling = {"rope_type": "longrope", "short_factor": short, "long_factor": [9.0] * (DIM // 2)}
    config = transformers.Phi3Config(
        rope_parameters={"rope_theta": 10000.0, **scaling},
        max_position_embeddings=LENGTH,
        original_max_position_embeddings=512,
        hidden_size=4 * DIM,
        num_attention_heads=4,
    )
    expected, attention_factor = ROPE_INIT_FUNCTIONS["longrope"](config, CPU)
    ours, fields = _ours(tmp_path, {"rope_scaling": scaling, "original_max_position_embeddings": 512})
    torch.testing.assert_close(inverse_frequencies(ours, CPU), expected, rtol=1e-6, atol=0)
    assert ours.attention_factor == pytest.approx(attention_factor)
    assert context_length(fields, ours) == 512


@pytest.mark.parametrize(
    ("name", "tokens"),
    [("default", 4096), ("linear", 4096), ("llama3", 4096), ("dynamic", 12288), ("yarn", 16384)],
)
def test_how_far_a_scaling_reaches(tmp_path, name, tokens):
    assert context_length(*reversed(_ours(tmp_path, {"rope_parameters": SCALINGS[name]}))) == tokens
