"""Embeddings of the offline engine: the server's vectors, without its libraries."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer

from kindling_engine.llm import LLM
from kindling_tiny_encoders import decoder_make, encoder_make, reference_states, texts_make
from kindling_tiny_models import model_make


@pytest.fixture(scope="module", params=["bert", "qwen"])
def folder(request, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp(request.param)
    return encoder_make("bert", path) if request.param == "bert" else decoder_make(path)


@pytest.fixture(scope="module")
def llm(folder: Path) -> LLM:
    return LLM(folder, threads=1, kv_tokens=4096, max_batch=8, step_tokens=128)


def expected(folder: Path, texts: list[list[int]]) -> np.ndarray:
    last = (folder / "1_Pooling" / "config.json").read_text().find('"pooling_mode_lasttoken": true') > 0
    states = reference_states(folder, texts)
    pooled = torch.stack([one[-1] if last else one.mean(0) for one in states]).numpy()
    return pooled / np.linalg.norm(pooled, axis=1, keepdims=True)


def test_texts_and_token_ids(llm: LLM, folder: Path):
    ids = texts_make([3, 100, 17, 40])
    found = llm.embed(["w7 w8 w9", *ids, "w5"])
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    wanted = [tokenizer.encode("w7 w8 w9").ids, *ids, tokenizer.encode("w5").ids]
    assert found.shape == (6, 64)
    assert np.abs(found - expected(folder, wanted)).max() < 1e-5
    assert np.allclose(np.linalg.norm(llm.embed(["w5"], dimensions=5), axis=1), 1)
    assert llm.embed([]).shape == (0, 64)


def test_what_cannot_be_embedded_is_said(llm: LLM):
    limit = llm.context_length
    with pytest.raises(ValueError, match=r"Text 1: .*tokens"):
        llm.embed(["w5", [7] * (limit + 1)])
    with pytest.raises(ValueError, match="Text 0"):
        llm.embed([[]])
    with pytest.raises(ValueError, match="1 to 64"):
        llm.embed(["w5"], dimensions=65)
    with pytest.raises(ValueError, match="makes embeddings"):
        llm.generate(["w5"])
    whole = llm.embed([[7] * limit])
    assert np.allclose(llm.embed([[7] * (limit + 9)], truncate=True), whole, atol=1e-6)


def test_a_generation_model_makes_no_embeddings(tmp_path: Path):
    llm = LLM(model_make("llama", tmp_path), threads=1, kv_tokens=1024, max_batch=4)
    with pytest.raises(ValueError, match="no embeddings"):
        llm.embed([[5]])


def test_no_server_library_is_loaded(tmp_path: Path):
    folders = [str(encoder_make("bert", tmp_path / "bert")), str(decoder_make(tmp_path / "qwen"))]
    program = (
        "import sys; from kindling_engine.llm import LLM; "
        f"[LLM(folder, threads=1, kv_tokens=512, max_batch=4).embed(['w5']) for folder in {folders!r}]; "
        "print([name for name in ('msgspec', 'aiohttp', 'orjson', 'transformers') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
