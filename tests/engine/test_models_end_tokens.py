"""Which tokens end an answer: what the files name, and the tokenizer's own end beside it."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from kindling_backend_models import backend_model_make
from kindling_engine.models.end_tokens import eos_ids_read
from kindling_engine.models.errors import ModelError
from kindling_engine.models.registry import model_load
from kindling_tiny_models import EOS, model_make

VOCAB = {"<|endoftext|>": 0, "a": 1, "</s>": 2}
ADDED = [{"id": 9, "content": "<|im_end|>"}]


def write(folder: Path, name: str, value: Any) -> None:
    (folder / name).write_text(value if isinstance(value, str) else json.dumps(value))


def tokenizer_write(folder: Path, end: Any) -> None:
    write(folder, "tokenizer.json", {"model": {"type": "BPE", "vocab": VOCAB}, "added_tokens": ADDED})
    write(folder, "tokenizer_config.json", {"eos_token": end})


@pytest.mark.parametrize(
    ("generation", "config", "end", "ids"),
    [
        (None, None, "<|im_end|>", (9,)),
        (None, 0, "<|im_end|>", (0, 9)),
        (0, 2, {"content": "<|im_end|>", "special": True}, (0, 9)),
        ([2, 0], None, "</s>", (2, 0)),
        (None, 2, None, (2,)),
        (None, 2, "<|nowhere|>", (2,)),
        (None, 2, 7, (2,)),
    ],
)
def test_the_tokenizers_end_is_one_beside_those_that_are_named(
    tmp_path: Path, generation: Any, config: Any, end: Any, ids: tuple[int, ...]
):
    tokenizer_write(tmp_path, end)
    if generation is not None:
        write(tmp_path, "generation_config.json", {"eos_token_id": generation})
    assert eos_ids_read(tmp_path, config, vocab_size=10) == ids


@pytest.mark.parametrize("ascii_only", [False, True])
def test_the_end_is_found_in_the_vocabulary_and_in_no_other_token(tmp_path: Path, ascii_only: bool):
    words = {'x"b': 3, "b": 4, "type_id": 5, "<一>": 6, "c": 1.5, "d": -5}
    made = {
        "post_processor": {"type_id": 0},
        "model": {"vocab": words},
        "added_tokens": [{"id": -5, "content": "e"}],
    }
    write(tmp_path, "tokenizer.json", json.dumps(made, ensure_ascii=ascii_only))
    for end, own in (("b", (4,)), ("type_id", (5,)), ("<一>", (6,)), ("c", ()), ("d", ()), ("e", ())):
        write(tmp_path, "tokenizer_config.json", {"eos_token": end})
        assert eos_ids_read(tmp_path, None, vocab_size=10) == own, end


def test_nesting_without_end_leaves_what_is_named(tmp_path: Path):
    tokenizer_write(tmp_path, "<|im_end|>")
    write(tmp_path, "tokenizer.json", '{"added_tokens": ' + "[" * 100_000)
    assert eos_ids_read(tmp_path, [0], vocab_size=10) == (0,)


def test_an_end_that_the_model_has_no_row_for_is_none(tmp_path: Path):
    tokenizer_write(tmp_path, "<|im_end|>")
    assert eos_ids_read(tmp_path, 0, vocab_size=9) == (0,)


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json"])
@pytest.mark.parametrize("content", [None, "{", "[1]"])
def test_files_that_cannot_be_read_leave_what_is_named(tmp_path: Path, name: str, content: str | None):
    tokenizer_write(tmp_path, "<|im_end|>")
    (tmp_path / name).unlink() if content is None else write(tmp_path, name, content)
    assert eos_ids_read(tmp_path, [0], vocab_size=10) == (0,)


def test_what_is_no_token_is_refused(tmp_path: Path):
    with pytest.raises(ModelError, match="eos_token_id"):
        eos_ids_read(tmp_path, "2", vocab_size=10)


@pytest.mark.parametrize("make", ["llama", "Olmo2ForCausalLM"])
def test_models_of_both_kinds_have_it(tmp_path: Path, make: str):
    maker = model_make if make == "llama" else backend_model_make
    folder = maker(make, tmp_path / "model")
    tokenizer_write(folder, "<|im_end|>")
    model = model_load(folder, device=torch.device("cpu"), dtype=torch.float32)
    assert model.config.eos_ids == (EOS, 9)
