"""POST /v1/embeddings: OpenAI's shape, every kind of input, one usage record, and what ends a call early."""

import asyncio
import base64
import json
import re
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytest_asyncio

from kindling_embedding_bench import CONTEXT_LENGTH, HIDDEN_SIZE, EmbeddingBench, embedding_bench, vector_of
from kindling_fake_core import fake_bench
from kindling_tiny_encoders import CLS, SEP, modules_write, tokenizer_write


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    (folder / "config.json").write_text(json.dumps({"architectures": ["BertModel"]}))
    tokenizer_write(folder, before=["[CLS]"], after=["[SEP]"])
    modules_write(folder)
    return folder


@pytest_asyncio.fixture
async def bench(model: Path, tmp_path: Path) -> AsyncIterator[EmbeddingBench]:
    async with embedding_bench(model, tmp_path) as running:
        yield running


async def started(bench: EmbeddingBench, count: int) -> None:
    """Wait until the core has that many texts."""
    async with asyncio.timeout(60):
        while len(bench.core.embeds) < count:
            await asyncio.sleep(0.01)


def unit(ids: list[int], dimensions: int = HIDDEN_SIZE) -> np.ndarray:
    cut = vector_of(ids)[:dimensions]
    return cut / np.linalg.norm(cut)


async def test_one_text(bench: EmbeddingBench):
    reply = await bench.embed_whole("w7 w8")
    (found,) = reply["data"]
    assert (reply["object"], reply["model"], found["object"], found["index"]) == (
        "list",
        "acme/vectors",
        "embedding",
        0,
    )
    assert np.allclose(found["embedding"], unit([CLS, 7, 8, SEP]), atol=1e-6)
    assert reply["usage"] == {
        "prompt_tokens": 4,
        "total_tokens": 4,
        "prompt_tokens_details": {"cached_tokens": 0},
    }


@pytest.mark.parametrize(
    ("given", "ids"),
    [
        (["w5", "w6 w7"], [[CLS, 5, SEP], [CLS, 6, 7, SEP]]),
        ([9, 10, 11], [[9, 10, 11]]),
        ([[9, 10], [11]], [[9, 10], [11]]),
        ([[9, 10], "w11"], [[9, 10], [CLS, 11, SEP]]),
    ],
)
async def test_every_kind_of_input(bench: EmbeddingBench, given: Any, ids: list[list[int]]):
    reply = await bench.embed_whole(given)
    assert [one.prompt_ids for one in bench.core.embeds] == ids
    assert [one["index"] for one in reply["data"]] == list(range(len(ids)))
    for one, text in zip(reply["data"], ids, strict=True):
        assert np.allclose(one["embedding"], unit(text), atol=1e-6)
    assert reply["usage"]["prompt_tokens"] == sum(map(len, ids))


async def test_base64_holds_the_same_numbers(bench: EmbeddingBench):
    plain = await bench.embed_whole(["w5", "w6"], encoding_format="float")
    packed = await bench.embed_whole(["w5", "w6"], encoding_format="base64")
    for one, other in zip(plain["data"], packed["data"], strict=True):
        values = np.frombuffer(base64.b64decode(other["embedding"]), dtype="<f4")
        assert np.array_equal(values, np.array(one["embedding"], dtype=np.float32))


async def test_fewer_dimensions_are_the_first_ones_at_unit_length(bench: EmbeddingBench):
    reply = await bench.embed_whole("w5", dimensions=6)
    assert np.allclose(reply["data"][0]["embedding"], unit([CLS, 5, SEP], 6), atol=1e-6)


async def test_one_record_for_the_whole_call(bench: EmbeddingBench):
    headers = {"context": '{"org":"o"}', "tenant": "o", "salt": "s", "priority": "3"}
    await bench.embed_whole(["w5", "w6 w7", "w8"], headers=headers)
    (record,) = await bench.records()
    assert (record.prompt_tokens, record.completion_tokens, record.finish) == (10, 0, "stop")
    assert (record.context, record.tenant, record.first_token_ms) == ('{"org":"o"}', "o", None)
    assert {(one.tenant, one.salt, one.priority) for one in bench.core.embeds} == {("o", "s", 3)}


async def test_two_thousand_inputs_in_one_call(bench: EmbeddingBench):
    reply = await bench.embed_whole([[index % 300] for index in range(2048)])
    assert len(reply["data"]) == 2048
    assert np.allclose(reply["data"][301]["embedding"], unit([1]), atol=1e-6)
    assert len(await bench.records()) == 1


@pytest.mark.parametrize(
    ("fields", "code", "param", "said"),
    [
        ({"input": []}, "invalid_value", "input", "nothing"),
        ({"input": ""}, "invalid_value", "input", "non-empty"),
        ({"input": ["w5", ""]}, "invalid_value", "input[1]", "non-empty"),
        ({"input": [[5], []]}, "invalid_value", "input[1]", "non-empty"),
        ({"input": [[5], 6]}, "invalid_value", "input[1]", "non-empty"),
        ({"input": [5, "w5"]}, "invalid_value", "input", "token ids"),
        ({"input": [True]}, "invalid_value", "input", "token ids"),
        ({"input": [320]}, "invalid_value", "input", "319"),
        ({"input": [-1]}, "invalid_value", "input", "token ids"),
        ({"input": 5}, "invalid_value", "input", "non-empty"),
        ({"input": {"text": "w5"}}, "invalid_value", "input", "non-empty"),
        ({"input": None}, "missing_field", "input", "required"),
        ({"input": ["w5"] * 2049}, "invalid_value", "input", "2049.*2048"),
        ({"input": "\ud800"}, "invalid_value", "input", "surrogate"),
        ({"input": [[7] * 65]}, "context_length_exceeded", "input", "65 tokens.*64"),
        ({"input": ["w5", "w5 " * 63]}, "context_length_exceeded", "input[1]", "65 tokens.*64"),
        ({"input": "w" * 100_000}, "context_length_exceeded", "input", "100000 characters.*64"),
        ({"dimensions": 17}, "invalid_value", "dimensions", "16"),
        ({"dimensions": 0}, "invalid_value", "dimensions", "1"),
        ({"encoding_format": "int8"}, "invalid_value", "encoding_format", "base64"),
        ({"encoding": "x"}, "unsupported_field", "encoding", "not supported"),
        ({"stream": True}, "unsupported_field", "stream", "not supported"),
        ({"model": ""}, "invalid_value", "model", "non-empty"),
        ({"truncate_prompt_tokens": 0}, "invalid_value", "truncate_prompt_tokens", "at least 1"),
        ({"context_length_exceeded_behavior": "x"}, "invalid_value", "context_length_exceeded_behavior", "error"),
    ],
)  # fmt: skip
async def test_refusals_name_the_field(
    bench: EmbeddingBench, fields: dict[str, Any], code: str, param: str, said: str
):
    refused = await bench.refused(fields.pop("input", "w5"), **fields)
    assert (refused["status"], refused["code"], refused["param"]) == (400, code, param)
    assert re.search(said, refused["message"])
    assert not bench.core.embeds
    assert not await bench.records()


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"input": NaN}', b"\xff", b'{"model":"m","model":"n"}'])
async def test_bodies_that_are_no_json_object(bench: EmbeddingBench, body: bytes):
    async with bench.post("/v1/embeddings", body) as reply:
        assert (reply.status, (await reply.json())["error"]["code"]) == (400, "invalid_json")


async def test_long_texts_are_cut_when_asked_for(bench: EmbeddingBench):
    words = " ".join(f"w{index % 300 + 5}" for index in range(100))
    whole = [*(index % 300 + 5 for index in range(100))]
    shorten = {"context_length_exceeded_behavior": "truncate"}
    await bench.embed_whole([words, whole, "w5", "w" * 100_000], **shorten)
    long, tokens, short, junk = [one.prompt_ids for one in bench.core.embeds]
    assert long == [CLS, *whole[: CONTEXT_LENGTH - 2], SEP]
    assert tokens == whole[:CONTEXT_LENGTH]
    assert short == [CLS, 5, SEP]
    assert len(junk) <= CONTEXT_LENGTH
    await bench.embed_whole(words, truncate_prompt_tokens=10)
    assert bench.core.embeds[-1].prompt_ids == [CLS, *whole[:8], SEP]
    await bench.embed_whole(words, truncate_prompt_tokens=-1)
    assert bench.core.embeds[-1].prompt_ids == long


async def test_a_client_that_leaves_pays_for_what_was_computed(bench: EmbeddingBench):
    bench.core.gate = asyncio.Semaphore(1)
    asked = asyncio.create_task(bench.embed_whole(["w5 w6 w7", "w8", "w9"]))
    await started(bench, 3)
    while not any(one.answers for one in bench.front.core._texts.values()):
        await asyncio.sleep(0.01)
    asked.cancel()
    record = await bench.record_when_there()
    assert (record.finish, record.prompt_tokens, record.completion_tokens) == ("cancelled", 5, 0)
    assert len(bench.core.cancelled) == 2
    assert bench.front.active == 0
    bench.core.gate = None
    assert len((await bench.embed_whole("w5"))["data"]) == 1


async def test_a_vector_that_failed_fails_the_call_and_costs_nothing(bench: EmbeddingBench):
    bench.core.finish["1"] = ("error", "non_finite_embedding")
    refused = await bench.refused(["w5", "w6", "w7"])
    assert (refused["status"], refused["code"]) == (500, "non_finite_embedding")
    (record,) = await bench.records()
    assert record.finish == "error"
    assert not record.billable


async def test_a_core_that_dies_ends_the_call(bench: EmbeddingBench):
    bench.core.gate = asyncio.Semaphore(0)
    asked = asyncio.create_task(bench.refused(["w5", "w6"]))
    await started(bench, 2)
    bench.core.die()
    refused = await asked
    assert (refused["status"], refused["code"]) == (503, "engine_unavailable")
    assert [record.finish for record in await bench.records()] == ["error"]


async def test_a_drain_waits_and_then_ends_what_runs(bench: EmbeddingBench):
    bench.core.gate = asyncio.Semaphore(0)
    asked = asyncio.create_task(bench.refused(["w5", "w6"]))
    await started(bench, 2)
    await bench.front.drain(0.05)
    refused = await asked
    assert (refused["status"], refused["code"]) == (503, "engine_unavailable")
    assert [record.finish for record in await bench.records()] == ["error"]
    assert (await bench.refused("w5"))["status"] == 503


async def test_the_same_id_twice_is_refused(bench: EmbeddingBench):
    bench.core.gate = asyncio.Semaphore(0)
    headers = {"request": "one-id"}
    first = asyncio.create_task(bench.embed_whole(["w5", "w6"], headers=headers))
    await started(bench, 2)
    assert (await bench.refused(["w7", "w8"], headers=headers))["code"] == "duplicate_request"
    bench.core.gate.release()
    bench.core.gate.release()
    assert len((await first)["data"]) == 2


async def test_models_that_do_the_other_thing(bench: EmbeddingBench, tmp_path: Path):
    for path, body in (("chat/completions", {"messages": []}), ("completions", {"prompt": "w5"})):
        async with bench.post(f"/v1/{path}", {"model": "acme/vectors", **body}) as reply:
            error = (await reply.json())["error"]
            assert (reply.status, error["code"]) == (400, "not_a_generation_model")
    (tmp_path / "other").mkdir()
    async with fake_bench(tmp_path / "other") as generating:
        async with generating.post("/v1/embeddings", {"model": "kindling/spark", "input": "Hi"}) as reply:
            error = (await reply.json())["error"]
            assert (reply.status, error["code"]) == (400, "not_an_embedding_model")
        assert not await generating.records()


async def test_a_grant_for_a_call_is_unknown(bench: EmbeddingBench):
    bench.core.gate = asyncio.Semaphore(0)
    asked = asyncio.create_task(bench.embed_whole("w5", headers={"request": "running"}))
    await started(bench, 1)
    async with bench.post("/requests/running/grant", {"tokens": 5}) as reply:
        assert reply.status == 404
    bench.core.gate.release()
    await asked


async def test_text_with_tokens_that_only_the_tokenizer_knows_is_refused_by_its_field(bench: EmbeddingBench):
    bench.front.facts = replace(bench.front.facts, vocab_size=8)
    error = await bench.refused(["w7", "w8"])
    assert (error["status"], error["code"], error["param"]) == (400, "invalid_value", "input[1]")
    assert "'w8'" in error["message"]
