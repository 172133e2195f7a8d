"""What an engine's front tells beside its answers: counts of a prompt, times, stop strings, fields without effect."""

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kindling_fake_core import Bench, fake_bench

MESSAGES = [{"role": "user", "content": "Hi"}]
ASK = {"model": "m", "messages": MESSAGES}


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with fake_bench(tmp_path) as made:
        made.say("one two three")
        yield made


async def answer(bench: Bench, path: str = "/v1/chat/completions", **fields: Any) -> dict[str, Any]:
    async with bench.post(path, ASK | fields) as reply:
        assert reply.status == 200, await reply.text()
        found: dict[str, Any] = await reply.json()
        return found


async def chunks_of(bench: Bench, **fields: Any) -> tuple[dict[str, str], list[dict[str, Any]]]:
    async with bench.post("/v1/chat/completions", ASK | fields | {"stream": True}) as reply:
        text = await reply.text()
        blocks = [one.removeprefix("data: ") for one in text.split("\n\n") if one.startswith("data: {")]
        return {name.lower(): value for name, value in reply.headers.items()}, [
            json.loads(one) for one in blocks
        ]


async def test_a_prompts_tokens_are_those_of_its_answer(bench: Bench):
    tools = [{"type": "function", "function": {"name": "look"}}]
    for fields in (
        {},
        {"messages": [{"role": "system", "content": "Be kind."}, *MESSAGES]},
        {"tools": tools},
    ):
        counted = await answer(bench, "/v1/chat/tokens", **fields)
        assert counted == {"tokens": (await answer(bench, **fields))["usage"]["prompt_tokens"]}


async def test_counting_starts_and_records_nothing(bench: Bench):
    await answer(bench, "/v1/chat/tokens")
    assert bench.core.submitted == []
    assert await bench.records() == []


async def test_a_prompt_beyond_the_context_is_counted_but_for_one_far_beyond_it(bench: Bench):
    many = [{"role": "user", "content": "word " * 5_000}]
    counted = await answer(bench, "/v1/chat/tokens", messages=many)
    assert counted["tokens"] == len((await answer(bench, "/v1/tokenize", messages=many))["tokens"]) > 5_000
    body = ASK | {"messages": [{"role": "user", "content": "word " * 500_000}]}
    async with bench.post("/v1/chat/tokens", body) as reply:
        error = (await reply.json())["error"]
    assert (reply.status, error["code"]) == (400, "context_length_exceeded")


async def test_a_stream_tells_its_prompt_before_its_first_token(bench: Bench):
    bench.core.cached_tokens = 1
    headers, chunks = await chunks_of(bench)
    usage = chunks[-1]["usage"]
    assert headers["x-kindling-prompt-tokens"] == str(usage["prompt_tokens"])
    assert headers["x-kindling-cached-tokens"] == str(usage["prompt_tokens_details"]["cached_tokens"]) == "1"


async def test_the_stop_string_that_ended_an_answer_is_named(bench: Bench):
    whole = (await answer(bench, stop=["two", "nine"]))["choices"][0]
    assert (whole["finish_reason"], whole["stop_reason"], whole["message"]["content"]) == (
        "stop",
        "two",
        "one ",
    )
    _, chunks = await chunks_of(bench, stop=["two"])
    assert chunks[-2]["choices"][0]["stop_reason"] == "two"
    assert "stop_reason" not in (await answer(bench, stop=["nine"]))["choices"][0]
    plain = {"model": "m", "prompt": "Hi", "stop": ["two"], "max_tokens": 9}
    async with bench.post("/v1/completions", plain) as reply:
        assert (await reply.json())["choices"][0]["stop_reason"] == "two"


async def test_times_are_told_to_those_who_ask(bench: Bench):
    whole = await answer(bench, perf_metrics_in_response=True, n=2)
    perf, usage = whole["perf_metrics"], whole["usage"]
    parts = perf["queue_ms"] + perf["adapter_load_ms"] + perf["prefill_ms"]
    assert perf["time_to_first_token_ms"] == pytest.approx(parts, abs=0.16)
    assert perf["total_ms"] == perf["time_to_first_token_ms"] + perf["decode_ms"]
    assert min(value for value in perf.values() if value is not None) >= 0
    assert (perf["adapter_load_ms"], perf["adapter_hit"], perf["speculation_acceptance"]) == (0, None, None)
    assert (perf["prompt_tokens"], perf["completion_tokens"]) == (
        usage["prompt_tokens"],
        usage["completion_tokens"],
    )
    _, chunks = await chunks_of(bench, perf_metrics_in_response=True)
    assert set(chunks[-1]["perf_metrics"]) == set(perf)
    assert "perf_metrics" not in await answer(bench)


@pytest.mark.parametrize("stream", [False, True])
async def test_times_are_told_in_headers_too(bench: Bench, stream: bool):
    ask = ASK | {"stream": stream}
    async with bench.post("/v1/chat/completions", ask | {"perf_metrics_in_response": True}) as reply:
        timing = reply.headers["server-timing"]
        names = [part.partition(";dur=")[0] for part in timing.split(", ")]
        assert names[:4] == ["queue", "adapter", "prefill", "ttft"]
        assert stream or names[4:] == ["decode", "total"]
        assert all(float(part.partition(";dur=")[2]) >= 0 for part in timing.split(", "))
        assert int(reply.headers["x-kindling-prompt-tokens"]) > 0
        assert reply.headers["x-kindling-cached-tokens"].isdigit()
        assert "x-kindling-adapter-hit" not in reply.headers
    async with bench.post("/v1/chat/completions", ask) as reply:
        assert "server-timing" not in reply.headers
        # For the gateway, which sees the first token of a whole answer with the last.
        assert stream == ("x-kindling-written-ms" not in reply.headers)
        assert stream or reply.headers["x-kindling-written-ms"].isdigit()


@pytest.mark.parametrize(("waited_ms", "hit"), [(0.0, True), (12.5, False)])
async def test_the_load_of_an_adapter_is_told_apart_from_waiting(bench: Bench, waited_ms: float, hit: bool):
    bench.core.told = {"adapter_ms": waited_ms, "queue_ms": waited_ms + 1}
    ask = ASK | {"perf_metrics_in_response": True}
    async with bench.post("/v1/chat/completions", ask, adapter="a" * 64) as reply:
        perf = (await reply.json())["perf_metrics"]
        assert reply.headers["x-kindling-adapter-hit"] == str(hit).lower()
    assert perf["adapter_hit"] is hit
    assert perf["adapter_load_ms"] <= waited_ms
    assert perf["queue_ms"] + perf["adapter_load_ms"] <= waited_ms + 1


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"verbosity": "loud", "prompt_cache_retention": "24h"}, {"verbosity", "prompt_cache_retention"}),
        ({"prompt_cache_options": {"ttl": 5}}, {"prompt_cache_options"}),
        (
            {"stream": True, "stream_options": {"include_obfuscation": True}},
            {"stream_options.include_obfuscation"},
        ),
        ({"stream": True, "stream_options": {"include_obfuscation": False}}, set()),
        ({"logprobs": False, "top_logprobs": 0}, set()),
        ({"top_logprobs": 0}, set()),
    ],
)
async def test_what_asks_for_nothing_that_is_here_is_taken(
    bench: Bench, fields: dict[str, Any], named: set[str]
):
    async with bench.post("/v1/chat/completions", ASK | fields) as reply:
        assert reply.status == 200, await reply.text()
        assert set(filter(None, reply.headers.get("x-kindling-ignored", "").split(","))) == named


@pytest.mark.parametrize("tier", ["flex", "priority"])
async def test_there_is_one_tier(bench: Bench, tier: str):
    async with bench.post("/v1/chat/completions", ASK | {"service_tier": tier}) as reply:
        assert (reply.status, reply.headers["x-kindling-ignored"]) == (200, "service_tier")
    async with bench.post("/v1/chat/completions", ASK | {"service_tier": "express"}) as reply:
        assert (await reply.json())["error"]["param"] == "service_tier"


@pytest.mark.parametrize(
    ("prediction", "param"),
    [
        ("one two", None),
        ({"type": "content", "content": "one"}, None),
        ({"type": "content", "content": [{"type": "text", "text": "one"}]}, None),
        ({"type": "draft", "content": "one"}, "prediction.type"),
        ({"type": "content"}, "prediction.content"),
        ({"type": "content", "content": 3}, "prediction.content"),
        ({"type": "content", "content": [{"type": "image_url"}]}, "prediction.content"),
        (3, "prediction"),
    ],
)
async def test_a_prediction_changes_nothing_and_has_a_shape(bench: Bench, prediction: Any, param: str | None):
    async with bench.post("/v1/chat/completions", ASK | {"prediction": prediction}) as reply:
        if param is None:
            assert (reply.status, reply.headers["x-kindling-ignored"]) == (200, "prediction")
        else:
            assert (reply.status, (await reply.json())["error"]["param"]) == (400, param)


@pytest.mark.parametrize(
    "prediction", ["one two", {"type": "content", "content": [{"type": "text", "text": "one two"}]}]
)
async def test_a_prediction_goes_to_an_engine_that_guesses(bench: Bench, prediction: Any):
    bench.front.facts = replace(bench.front.facts, speculates=True)
    bench.core.told = {"drafted": 5, "guessed": 4}
    async with bench.post(
        "/v1/chat/completions", ASK | {"prediction": prediction, "perf_metrics_in_response": True}
    ) as reply:
        whole = await reply.json()
        assert "x-kindling-ignored" not in reply.headers
    assert (
        bench.core.submitted[-1].prediction_ids
        == bench.text.tokenizer.encode("one two", add_special_tokens=False).ids
    )
    details = whole["usage"]["completion_tokens_details"]
    predicted = len(bench.core.submitted[-1].prediction_ids)
    assert (details["accepted_prediction_tokens"], details["rejected_prediction_tokens"]) == (predicted, 0)
    assert whole["perf_metrics"]["speculation_acceptance"] == 0.8
    # Guesses of the engine's own are nobody's prediction, and of a prediction only what came counts.
    for fields in ({}, {"prediction": "Nothing of this"}):
        details = (await answer(bench, **fields))["usage"]["completion_tokens_details"]
        assert details["accepted_prediction_tokens"] == 0


@pytest.mark.parametrize("field", ["frequency_penalty", "presence_penalty", "repetition_penalty"])
async def test_a_prediction_has_no_effect_beside_a_penalty(bench: Bench, field: str):
    bench.front.facts = replace(bench.front.facts, speculates=True)
    for value, header, sent in ((0.5, "prediction", False), (float(field[0] == "r"), None, True)):
        ask = ASK | {"prediction": "one two", field: value}
        async with bench.post("/v1/chat/completions", ask) as reply:
            assert (reply.status, reply.headers.get("x-kindling-ignored")) == (200, header)
        assert bool(bench.core.submitted[-1].prediction_ids) is sent


@pytest.mark.parametrize(
    "fields", [{}, {"stop": ["two"]}, {"logprobs": True, "top_logprobs": 1}, {"max_tokens": 4}]
)
async def test_tokens_that_come_together_read_and_count_as_they_do_one_by_one(
    bench: Bench, fields: dict[str, Any]
):
    bench.front.facts = replace(bench.front.facts, speculates=True)
    fields = {"prediction": "one two three", **fields}
    found = []
    for together in (1, 3, 50):
        bench.core.together = together
        bench.core.told = {"drafted": 49, "guessed": 49}
        whole = await answer(bench, **fields)
        _, chunks = await chunks_of(bench, **fields, stream_options={"include_usage": True})
        text = "".join(one["choices"][0]["delta"].get("content") or "" for one in chunks if one["choices"])
        assert text == whole["choices"][0]["message"]["content"]
        assert chunks[-1]["usage"] == whole["usage"]
        details = whole["usage"]["completion_tokens_details"]
        # What was made behind a stop string is nobody's; no prediction has an end token.
        predicted = len(bench.core.submitted[-1].prediction_ids)
        assert details["accepted_prediction_tokens"] == min(predicted, whole["usage"]["completion_tokens"])
        found.append((whole["choices"], whole["usage"]))
    assert found[0] == found[1] == found[2]
    records = await bench.records()
    assert {one.completion_tokens for one in records} == {found[0][1]["completion_tokens"]}


async def test_a_prediction_longer_than_any_answer_is_of_no_use(bench: Bench):
    bench.front.facts = replace(bench.front.facts, speculates=True)
    await answer(bench, prediction="word " * 50_000)
    assert bench.core.submitted[-1].prediction_ids == []
