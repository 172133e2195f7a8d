"""The whole engine with an embedding model: two processes, the official client, and transformers' vectors."""

import base64
import json
from collections.abc import Iterator
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path

import httpx
import numpy as np
import openai
import pytest
import torch
from tokenizers import Tokenizer

from kindling_engine_process import EngineProcess, wait_until
from kindling_tiny_encoders import WORDS, decoder_make, reference_states

REF = "acme/vectors"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return decoder_make(tmp_path_factory.mktemp("model"), max_position_embeddings=2048)


@pytest.fixture(scope="module")
def engine(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EngineProcess]:
    with EngineProcess(tmp_path_factory.mktemp("engine"), model=model, ref=REF) as running:
        yield running


def client(engine: EngineProcess) -> openai.OpenAI:
    return openai.OpenAI(
        base_url=f"{engine.url}/v1", api_key="none", max_retries=0, default_headers=engine.headers()
    )


def texts_of(count: int) -> list[str]:
    return [" ".join(WORDS[index : index + 1 + index * 7 % 40]) for index in range(count)]


def expected(model: Path, texts: list[str]) -> np.ndarray:
    tokenizer = Tokenizer.from_file(str(model / "tokenizer.json"))
    ids = [tokenizer.encode(text).ids for text in texts]
    states = torch.stack([one[-1] for one in reference_states(model, ids)]).numpy()
    return states / np.linalg.norm(states, axis=1, keepdims=True)


@pytest.mark.parametrize("encoding", [None, "float", "base64"])
def test_the_official_client_gets_transformers_vectors(engine: EngineProcess, model: Path, encoding: str):
    texts = texts_of(30)
    extra = {} if encoding is None else {"encoding_format": encoding}
    reply = client(engine).embeddings.create(model=REF, input=texts, **extra)
    if encoding == "base64":
        found = [np.frombuffer(base64.b64decode(one.embedding), dtype="<f4") for one in reply.data]
    else:
        found = [one.embedding for one in reply.data]
    assert np.abs(np.array(found) - expected(model, texts)).max() < 1e-5
    words = sum(len(text.split()) + 1 for text in texts)
    assert reply.usage.prompt_tokens == reply.usage.total_tokens == words
    (record,) = [one for one in engine.records() if one.request_id == engine_id(reply)]
    assert (record.prompt_tokens, record.completion_tokens, record.finish) == (words, 0, "stop")


def engine_id(reply: openai.types.CreateEmbeddingResponse) -> str:
    assert reply._request_id
    return reply._request_id


def test_dimensions_cut_and_scale(engine: EngineProcess, model: Path):
    reply = client(engine).embeddings.create(model=REF, input="w9 w10", dimensions=10)
    cut = expected(model, ["w9 w10"])[0, :10]
    assert np.allclose(reply.data[0].embedding, cut / np.linalg.norm(cut), atol=1e-5)


def test_refusals_are_the_clients_own_errors(engine: EngineProcess):
    with pytest.raises(openai.BadRequestError) as refused:
        client(engine).embeddings.create(model=REF, input="w9 " * 2048)
    assert refused.value.code == "context_length_exceeded"
    assert "2049 tokens" in refused.value.message
    assert "2048" in refused.value.message.replace("2049", "")
    with pytest.raises(openai.BadRequestError) as refused:
        client(engine).chat.completions.create(model=REF, messages=[{"role": "user", "content": "w9"}])
    assert refused.value.code == "not_a_generation_model"


def test_a_client_that_leaves_stops_the_work_and_is_recorded(engine: EngineProcess):
    headers = engine.headers(context=json.dumps({"org": "leaver"}))
    body = {"model": REF, "input": [[7 + index % 300] * 2000 for index in range(200)]}

    with closing(HTTPConnection("127.0.0.1", engine.port, timeout=60)) as leaver:
        kind = {"content-type": "application/json"}
        leaver.request("POST", "/v1/embeddings", json.dumps(body), headers | kind)
        wait_until(lambda: httpx.get(f"{engine.url}/healthz", timeout=60).json()["active"])
    request_id = headers["x-kindling-request"]
    wait_until(lambda: any(one.request_id == request_id for one in engine.records()))
    (record,) = [one for one in engine.records() if one.request_id == request_id]
    assert (record.finish, record.completion_tokens) == ("cancelled", 0)
    assert record.prompt_tokens % 2000 == 0
    assert record.prompt_tokens < 200 * 2000
    wait_until(lambda: httpx.get(f"{engine.url}/healthz", timeout=60).json()["active"] == 0)
    assert httpx.get(f"{engine.url}/healthz", timeout=60).json()["status"] == "ready"
