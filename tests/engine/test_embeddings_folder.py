"""What sentence-transformers' files say, read without torch."""

import json
from pathlib import Path

import pytest

from kindling_engine.protocol.embedding_folder import (
    EmbeddingFolder,
    EmbeddingFolderError,
    embedding_folder_read,
)
from kindling_tiny_encoders import modules_write


def test_pooling_length_and_normalisation(tmp_path: Path):
    modules_write(tmp_path, pooling="cls_token", max_tokens=256)
    assert embedding_folder_read(tmp_path, "BertModel") == EmbeddingFolder(
        "cls", normalize=True, max_tokens=256
    )


def test_a_decoder_embeds_when_its_folder_says_so(tmp_path: Path):
    assert embedding_folder_read(tmp_path, "Qwen3ForCausalLM") is None
    modules_write(tmp_path, pooling="lasttoken", modules=("Transformer", "Pooling"))
    assert embedding_folder_read(tmp_path, "Qwen3ForCausalLM") == EmbeddingFolder(
        "lasttoken", normalize=False
    )


def test_an_encoder_alone_is_pooled_by_the_mean(tmp_path: Path):
    assert embedding_folder_read(tmp_path, "BertModel") == EmbeddingFolder("mean", normalize=False)


def test_the_default_prompt_is_kept(tmp_path: Path):
    modules_write(tmp_path)
    settings = {"prompts": {"query": "query: "}, "default_prompt_name": "query"}
    (tmp_path / "config_sentence_transformers.json").write_text(json.dumps(settings))
    found = embedding_folder_read(tmp_path, "BertModel")
    assert found is not None
    assert found.prompt == "query: "


@pytest.mark.parametrize(
    ("modules", "pooling", "named"),
    [
        (("Transformer", "Pooling", "Dense"), "mean_tokens", "Dense"),
        (("Transformer", "Pooling"), "max_tokens", "max_tokens"),
        (("Transformer", "Pooling"), "none", "exactly one"),
        (("Transformer", "Normalize"), "mean_tokens", "no pooling"),
        (("CLIPModel",), "mean_tokens", "CLIPModel"),
    ],
)
def test_what_is_not_served_is_named(modules: tuple[str, ...], pooling: str, named: str, tmp_path: Path):
    modules_write(tmp_path, pooling=pooling, modules=modules)
    with pytest.raises(EmbeddingFolderError, match=named):
        embedding_folder_read(tmp_path, "BertModel")


@pytest.mark.parametrize("path", ["../elsewhere", "a/b", ".."])
def test_a_module_outside_the_folder_is_refused(path: str, tmp_path: Path):
    modules_write(tmp_path)
    listed = json.loads((tmp_path / "modules.json").read_text())
    listed[1]["path"] = path
    (tmp_path / "modules.json").write_text(json.dumps(listed))
    with pytest.raises(EmbeddingFolderError, match="outside"):
        embedding_folder_read(tmp_path, "BertModel")


@pytest.mark.parametrize("text", ["{", "{}", "[1]", "[" * 100_000])
def test_broken_modules_are_refused(text: str, tmp_path: Path):
    (tmp_path / "modules.json").write_text(text)
    with pytest.raises(EmbeddingFolderError, match=r"modules\.json"):
        embedding_folder_read(tmp_path, "BertModel")
