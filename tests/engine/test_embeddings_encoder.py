"""Encoders against transformers: states, pooling, and texts of mixed lengths in one batch."""

import json
from pathlib import Path

import pytest
import torch

from kindling_engine.embeddings.pooling import pool
from kindling_engine.models.encoder import Encoder
from kindling_engine.models.encoder_config import encoder_config_load
from kindling_engine.models.encoder_inputs import text_batch_make
from kindling_engine.models.errors import ModelError
from kindling_engine.models.weights import Checkpoint
from kindling_tiny_encoders import ENCODERS, encoder_make, modules_write, reference_states, texts_make

CPU = torch.device("cpu")
ARCHITECTURES = {"bert": "BertModel", "roberta": "RobertaModel", "xlm-roberta": "XLMRobertaModel"}
LENGTHS = [5, 1, 64, 17, 5, 18, 40, 5, 128 - 2, 19, 2]


def load(folder: Path, family: str = "bert") -> Encoder:
    config = encoder_config_load(folder, ARCHITECTURES[family])
    with Checkpoint(folder, dtype=torch.float32, device=CPU) as checkpoint:
        return Encoder(config, checkpoint, CPU)


@torch.inference_mode()
def embed(encoder: Encoder, texts: list[list[int]]) -> torch.Tensor:
    batch = text_batch_make(texts, dtype=encoder.dtype, device=CPU)
    return pool(encoder.hidden(batch), batch, encoder.config.pooling)


def pooled(states: list[torch.Tensor], pooling: str) -> torch.Tensor:
    if pooling == "cls_token":
        return torch.stack([one[0] for one in states])
    if pooling == "lasttoken":
        return torch.stack([one[-1] for one in states])
    return torch.stack([one.mean(0) for one in states])


@pytest.mark.parametrize("family", ENCODERS)
def test_equals_transformers(family: str, tmp_path: Path):
    folder = encoder_make(family, tmp_path)
    texts = texts_make(LENGTHS)
    expected = pooled(reference_states(folder, texts), "mean_tokens")
    found = embed(load(folder, family), texts)
    assert (found - expected).abs().max() <= 1e-4 * expected.abs().max()


@pytest.mark.parametrize("pooling", ["cls_token", "mean_tokens", "lasttoken"])
def test_pools_as_the_folder_says(pooling: str, tmp_path: Path):
    folder = encoder_make("bert", tmp_path, pooling=pooling)
    texts = texts_make([9, 3, 30])
    expected = pooled(reference_states(folder, texts), pooling)
    assert torch.allclose(embed(load(folder), texts), expected, atol=2e-5)


def test_a_text_is_equal_alone_and_in_a_batch(tmp_path: Path):
    encoder = load(encoder_make("bert", tmp_path))
    texts = texts_make(LENGTHS)
    together = embed(encoder, texts)
    for text, vector in zip(texts, together, strict=True):
        assert torch.allclose(embed(encoder, [text])[0], vector, atol=1e-5)


def test_the_neighbours_in_a_batch_do_not_matter(tmp_path: Path):
    encoder = load(encoder_make("bert", tmp_path))
    first, second = texts_make([20, 22], seed=1), texts_make([21, 23], seed=2)
    alike = embed(encoder, [first[0], first[1]])[0]
    other = embed(encoder, [first[0], second[1]])[0]
    assert torch.allclose(alike, other, atol=1e-5)


def test_a_checkpoint_with_a_language_models_head_is_read(tmp_path: Path):
    import transformers

    plain = encoder_make("bert", tmp_path / "plain")
    headed = transformers.BertForMaskedLM.from_pretrained(plain)
    headed.save_pretrained(tmp_path / "headed")
    modules_write(tmp_path / "headed")
    texts = texts_make([6, 11])
    config = encoder_config_load(tmp_path / "headed", "BertForMaskedLM")
    with Checkpoint(tmp_path / "headed", dtype=torch.float32, device=CPU) as checkpoint:
        encoder = Encoder(config, checkpoint, CPU)
    assert torch.equal(embed(encoder, texts), embed(load(plain), texts))


def test_the_context_ends_where_the_folder_says(tmp_path: Path):
    folder = encoder_make("roberta", tmp_path, context_length=130)
    assert encoder_config_load(folder, "RobertaModel").context_length == 128
    modules_write(folder, max_tokens=48)
    assert encoder_config_load(folder, "RobertaModel").context_length == 48


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"position_embedding_type": "relative_key"}, "relative_key"),
        ({"is_decoder": True}, "is_decoder"),
        ({"hidden_act": "tanh"}, "tanh"),
    ],
)
def test_unusual_encoders_are_refused_by_name(change: dict, named: str, tmp_path: Path):
    folder = encoder_make("bert", tmp_path)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | change))
    with pytest.raises(ModelError, match=named) as refused:
        encoder_config_load(folder, "BertModel")
    assert refused.value.code == "unsupported_model"


def test_a_missing_tensor_is_named(tmp_path: Path):
    from safetensors.torch import load_file, save_file

    folder = encoder_make("bert", tmp_path)
    tensors = load_file(folder / "model.safetensors")
    del tensors["encoder.layer.1.output.dense.weight"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"encoder\.layer\.1\.output\.dense\.weight"):
        load(folder)
