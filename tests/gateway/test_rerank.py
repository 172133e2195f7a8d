"""Documents ranked by a real encoder behind the gateway; a model that makes text is refused by name."""

import math
from collections.abc import Iterator

import httpx
import pytest

from kindling_engine_process import EngineProcess
from kindling_gateway import GatewayServer, eventually, held_nano
from kindling_tiny_encoders import encoder_make

DOCUMENTS = ["w5", "w30 w40 w50 w60", "w5 w6 w7"]


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EngineProcess]:
    folder = tmp_path_factory.mktemp("encoder")
    model = encoder_make("bert", tmp_path_factory.mktemp("model"))
    with EngineProcess(folder, model=model, ref="acme/encoder") as engine:
        yield engine


def test_documents_are_ordered_by_their_cosine(server: GatewayServer, scene, encoder: EngineProcess):
    model = scene.new_model(encoder.url)
    with server.client(scene.key) as http:
        body = {"model": model, "query": "w5", "documents": [*DOCUMENTS[:2], {"text": DOCUMENTS[2]}]}
        reply = http.post("/v1/rerank", json=body)
        assert reply.status_code == 200, reply.text
        ranking = reply.json()
        vectors = [
            one["embedding"]
            for one in http.post("/v1/embeddings", json={"model": model, "input": ["w5", *DOCUMENTS]}).json()[
                "data"
            ]
        ]
    scores = [sum(map(math.prod, zip(vectors[0], one, strict=True))) for one in vectors[1:]]
    results = ranking["results"]
    assert [one["index"] for one in results] == sorted(range(3), key=lambda place: -scores[place])
    for one in results:
        assert one["relevance_score"] == pytest.approx(scores[one["index"]], abs=1e-5)
        assert one["document"]["text"] == DOCUMENTS[one["index"]]
    assert results[0]["index"] == 0
    assert results[0]["relevance_score"] == pytest.approx(1, abs=1e-5)
    assert ranking["data"] == results
    assert ranking["usage"]["total_tokens"] > 0
    assert ranking["id"] == f"rerank-{reply.headers['x-request-id']}"


def test_the_best_few_without_their_texts(server: GatewayServer, scene, encoder: EngineProcess):
    model = scene.new_model(encoder.url)
    body = {"model": model, "query": "w5", "documents": DOCUMENTS, "top_n": 2, "return_documents": False}
    with server.client(scene.key) as http:
        results = http.post("/v1/rerank", json=body).json()["results"]
    assert [set(one) for one in results] == [{"index", "relevance_score"}] * 2


def test_all_texts_are_charged(server: GatewayServer, scene, encoder: EngineProcess):
    model = scene.new_model(encoder.url)
    with server.client(scene.key) as http:
        reply = http.post("/v1/rerank", json={"model": model, "query": "w5", "documents": DOCUMENTS})
    tokens = reply.json()["usage"]["prompt_tokens"]
    cost = {reply.headers["x-request-id"]: tokens * 100}
    eventually(lambda: held_nano(scene.valkey, scene.customer) == cost)
    assert encoder.records()[-1].prompt_tokens == tokens


@pytest.mark.parametrize(("place", "param"), [(0, "query"), (2, "documents[1]")])
def test_a_text_that_is_too_long_is_named_as_it_was_sent(
    server: GatewayServer, scene, encoder: EngineProcess, place: int, param: str
):
    model = scene.new_model(encoder.url)
    texts = ["w5", "w6", "w7"]
    texts[place] = "w5 " * 5000
    with server.client(scene.key) as http:
        reply = http.post("/v1/rerank", json={"model": model, "query": texts[0], "documents": texts[1:]})
    error = reply.json()["error"]
    assert (reply.status_code, error["param"]) == (400, param)
    assert param in error["message"] and "input[" not in error["message"]


@pytest.mark.parametrize(
    ("change", "code", "param"),
    [
        ({"query": None}, "missing_field", "query"),
        ({"query": ""}, "invalid_value", "query"),
        ({"documents": None}, "missing_field", "documents"),
        ({"documents": []}, "invalid_value", "documents"),
        ({"documents": "x"}, "invalid_value", "documents"),
        ({"documents": ["x", 3]}, "invalid_value", "documents[1]"),
        ({"documents": [{"image": "x"}]}, "missing_field", "documents[0].text"),
        ({"documents": ["x"] * 2048}, "invalid_value", "documents"),
        ({"top_n": 0}, "invalid_value", "top_n"),
        ({"max_chunks_per_doc": 1}, "unsupported_field", "max_chunks_per_doc"),
    ],
)
def test_what_is_refused_is_named(http: httpx.Client, scene, change: dict, code: str, param: str):
    reply = http.post(
        "/v1/rerank", json={"model": "kindling/words", "query": "q", "documents": ["d"]} | change
    )
    error = reply.json()["error"]
    assert (reply.status_code, error["code"], error["param"]) == (400, code, param)
    assert scene.engine.received == []
