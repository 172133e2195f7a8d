"""Embedding models in the catalog: what their folders say, and what is kept of it."""

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from kindling_people import Customer
from kindling_platform.catalog.folder import model_folder_read
from kindling_platform.catalog.services import model_import
from kindling_platform.common.errors import KindlingError

pytestmark = pytest.mark.django_db


def folder_make(folder: Path, *, architecture: str = "BertModel", pooling: str = "mean_tokens") -> Path:
    config = {
        "architectures": [architecture], "hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 1,
        "num_attention_heads": 2, "max_position_embeddings": 514, "vocab_size": 30, "pad_token_id": 1,
    }  # fmt: skip
    modules = [
        {"idx": 0, "path": "", "type": "sentence_transformers.models.Transformer"},
        {"idx": 1, "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
    ]
    (folder / "1_Pooling").mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({f"pooling_mode_{pooling}": True}))
    (folder / "tokenizer.json").write_text("{}")
    save_file({"embeddings.word_embeddings.weight": np.zeros((30, 8))}, folder / "model.safetensors")
    return folder


@pytest.mark.parametrize(
    ("architecture", "task", "context_length"),
    [("BertModel", "embed", 514), ("XLMRobertaModel", "embed", 512), ("Qwen3ForCausalLM", "embed", 514)],
)
def test_a_folder_says_that_it_embeds(tmp_path: Path, architecture: str, task: str, context_length: int):
    facts = model_folder_read(folder_make(tmp_path / "model", architecture=architecture))
    assert (facts.task, facts.context_length) == (task, context_length)


def test_the_length_it_was_trained_for_counts(tmp_path: Path):
    folder = folder_make(tmp_path / "model")
    (folder / "sentence_bert_config.json").write_text('{"max_seq_length": 256}')
    assert model_folder_read(folder).context_length == 256


def test_another_pooling_is_another_revision(tmp_path: Path):
    mean = model_folder_read(folder_make(tmp_path / "mean"))
    first = model_folder_read(folder_make(tmp_path / "first", pooling="cls_token"))
    assert mean.revision != first.revision


def test_a_pooling_that_is_not_served_is_refused(tmp_path: Path):
    with pytest.raises(KindlingError, match="max_tokens") as refused:
        model_folder_read(folder_make(tmp_path / "model", pooling="max_tokens"))
    assert refused.value.code == "model_folder_invalid"


def test_an_imported_one_embeds_and_takes_no_adapters(tmp_path: Path, operator: Customer):
    model = model_import(
        org=operator.org,
        name="vectors",
        source_path=folder_make(tmp_path / "model"),
        is_public=True,
        actor=operator.actor,
    )
    assert (model.task, model.lora_ready, model.architecture) == ("embed", False, "BertModel")
    assert (model.chat_ready, model.surface) == (False, "embeddings")
