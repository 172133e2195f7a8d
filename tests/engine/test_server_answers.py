"""Answers of the front over a core that says what it is told: whole, streamed, chat and plain."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from kindling_engine.protocol.adapter_report import ENGINE_FAILED
from kindling_engine.protocol.findings import Finding
from kindling_engine.protocol.ipc import AdapterLoaded
from kindling_fake_core import Bench, event, events, fake_bench, text_of

TEXT = "Once upon a time a fox said: héllo 🦊 wörld, naïve café! 日本語"


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with fake_bench(tmp_path) as made:
        yield made


async def test_a_whole_chat_answer(bench: Bench):
    tokens = bench.say(TEXT)
    bench.core.cached_tokens = 4
    request_id = str(uuid.uuid4())
    async with bench.chat(headers={"request": request_id}, user="somebody", metadata={}) as reply:
        body = await reply.json()
        assert reply.headers["x-request-id"] == request_id
        assert reply.headers["x-kindling-ignored"] == "user,metadata"
    assert body["id"] == f"chatcmpl-{request_id}"
    assert body["object"] == "chat.completion"
    assert body["model"] == "kindling/spark"
    choice = body["choices"][0]
    assert choice["message"]["role"] == "assistant"
    assert choice["message"]["content"] == TEXT
    assert choice["finish_reason"] == "stop"
    prompt = len(bench.core.submitted[0].prompt_ids)
    assert body["usage"] == {
        "prompt_tokens": prompt,
        "completion_tokens": len(tokens),
        "total_tokens": prompt + len(tokens),
        "prompt_tokens_details": {"cached_tokens": 4},
        "completion_tokens_details": {
            "reasoning_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


async def test_what_has_no_effect_is_told(bench: Bench):
    bench.say(TEXT)
    headers = {"x-kindling-request": "r", "x-session-affinity": "s"}
    body = {
        "model": "m",
        "messages": [{"role": "user", "content": "Hi"}],
        "prompt_cache_key": "k",
        "store": False,
    }
    async with bench.http.post(f"{bench.url}/v1/chat/completions", json=body, headers=headers) as reply:
        assert reply.headers["x-kindling-ignored"] == "store,prompt_cache_key,x-session-affinity"


async def test_an_isolation_key_keeps_cached_prefixes_apart(bench: Bench):
    """As a field or as a header, and only together with the tenant's own salt."""
    bench.say(TEXT)
    await bench.chat_whole(headers={"salt": "5a"})
    await bench.chat_whole(headers={"salt": "5a"}, prompt_cache_isolation_key="k")
    await bench.chat_whole(headers={"salt": "5b"}, prompt_cache_isolation_key="k")
    await bench.chat_whole(headers={"salt": "5a"}, prompt_cache_isolation_key="l")
    named = {"x-kindling-request": "r", "x-kindling-salt": "5a", "x-prompt-cache-isolation-key": "k"}
    async with bench.http.post(
        f"{bench.url}/v1/completions", json={"model": "m", "prompt": "Hi"}, headers=named
    ) as reply:
        assert reply.status == 200
    plain, key, other_tenant, other_key, header = (one.salt for one in bench.core.submitted)
    assert plain == "5a"
    assert len({plain, key, other_tenant, other_key}) == 4
    assert header == key


async def test_a_chat_stream_has_the_promised_shape(bench: Bench):
    bench.say(TEXT)
    chunks = await bench.chat_events()
    assert chunks[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert all(chunk["object"] == "chat.completion.chunk" for chunk in chunks[:-1])
    assert text_of(chunks) == TEXT
    assert chunks[-3]["choices"][0] == {"index": 0, "delta": {}, "logprobs": None, "finish_reason": "stop"}
    assert chunks[-2]["choices"] == []
    assert chunks[-2]["usage"]["completion_tokens"] == len(bench.core.answer)
    assert chunks[-1] == "[DONE]"
    assert [chunk for chunk in chunks[:-2] if "usage" in chunk] == []
    assert len({chunk["id"] for chunk in chunks[:-1]}) == 1


async def test_no_chunk_holds_half_a_character(bench: Bench):
    bench.say("🦊" * 5 + "é" * 5)
    chunks = await bench.chat_events()
    assert "\ufffd" not in text_of(chunks)
    assert text_of(chunks) == "🦊" * 5 + "é" * 5


async def test_broken_characters_at_the_end_are_shown_in_the_end(bench: Bench):
    fox = bench.say("🦊", end=False)
    bench.core.answer = fox[:-1]
    assert (await bench.chat_whole())["choices"][0]["message"]["content"] == "\ufffd"


async def test_a_whole_completion(bench: Bench):
    bench.say(" a time")
    async with bench.post("/v1/completions", {"model": "m", "prompt": "Once upon", "max_tokens": 5}) as reply:
        body = await reply.json()
    assert body["object"] == "text_completion"
    assert body["choices"][0]["text"] == " a time"
    assert bench.core.submitted[0].prompt_ids == bench.text.tokenizer.encode("Once upon").ids


@pytest.mark.parametrize("prompt", [[5, 6, 7], [[5, 6, 7]]])
async def test_a_prompt_of_tokens_is_used_as_it_is(bench: Bench, prompt: list):
    bench.say("x")
    async with bench.post("/v1/completions", {"model": "m", "prompt": prompt}) as reply:
        assert reply.status == 200
    assert bench.core.submitted[0].prompt_ids == [5, 6, 7]
    assert bench.core.submitted[0].max_tokens == 16


async def test_a_completion_stream(bench: Bench):
    bench.say(TEXT)
    body = {"model": "m", "prompt": ["Once"], "stream": True, "max_tokens": 200}
    async with bench.post("/v1/completions", body) as reply:
        chunks = events(await reply.read())
    assert text_of(chunks) == TEXT
    assert chunks[-1] == "[DONE]"
    assert chunks[-2]["usage"]["completion_tokens"] == len(bench.core.answer)


async def test_length_is_the_reason_at_the_limit(bench: Bench):
    bench.say(TEXT)
    body = await bench.chat_whole(max_tokens=3)
    assert body["choices"][0]["finish_reason"] == "length"
    assert body["usage"]["completion_tokens"] == 3
    assert TEXT.startswith(body["choices"][0]["message"]["content"])


async def test_without_a_limit_a_chat_may_fill_the_context(bench: Bench):
    bench.say("x")
    await bench.chat_whole()
    submit = bench.core.submitted[0]
    assert submit.max_tokens == bench.front.facts.context_length - len(submit.prompt_ids)
    assert submit.grant == submit.max_tokens


async def test_everything_reaches_the_core(bench: Bench):
    bench.say("x")
    await bench.chat_whole(
        max_completion_tokens=9, temperature=0.25, top_p=0.5, top_k=7, min_p=0.125, seed=-3,
        repetition_penalty=1.5, frequency_penalty=-0.5, presence_penalty=0.75, logit_bias={"7": -100, "8": 2},
        ignore_eos=True, n=1, tools=None, response_format={"type": "text"}, service_tier="auto",
        headers={"adapter": "ab" * 32, "salt": "5a", "tenant": "org_1", "priority": "-2", "grant": "5",
                 "context": "{}"},
    )  # fmt: skip
    submit = bench.core.submitted[0]
    assert (submit.adapter, submit.salt, submit.tenant) == ("ab" * 32, "5a", "org_1")
    assert (submit.priority, submit.max_tokens, submit.grant, submit.logprobs) == (-2, 9, 5, -1)
    sampling = submit.sampling
    assert (sampling.temperature, sampling.top_p, sampling.top_k, sampling.min_p) == (0.25, 0.5, 7, 0.125)
    assert (sampling.seed, sampling.repetition_penalty, sampling.ignore_eos) == (-3, 1.5, True)
    assert (sampling.frequency_penalty, sampling.presence_penalty) == (-0.5, 0.75)
    assert sampling.logit_bias == {7: -100.0, 8: 2.0}


async def test_chat_logprobs(bench: Bench):
    tokens = bench.say("Hello 🦊")
    body = await bench.chat_whole(logprobs=True, top_logprobs=2)
    content = body["choices"][0]["logprobs"]["content"]
    assert bench.core.submitted[0].logprobs == 2
    assert len(content) == len(tokens) - 1  # the end of the sequence is not shown
    assert b"".join(bytes(one["bytes"]) for one in content).decode() == "Hello 🦊"
    assert content[0]["logprob"] == -0.5
    assert [top["logprob"] for top in content[0]["top_logprobs"]] == [-0.5, -2.0]


async def test_a_stream_shows_each_logprob_once(bench: Bench):
    bench.say("Hello 🦊 and more")
    whole = await bench.chat_whole(logprobs=True)
    chunks = await bench.chat_events(logprobs=True)
    streamed = [
        entry
        for chunk in chunks[:-2]
        for entry in (chunk["choices"][0]["logprobs"] or {"content": []})["content"]
    ]
    assert streamed == whole["choices"][0]["logprobs"]["content"]


async def test_completion_logprobs(bench: Bench):
    bench.say("Hello there")
    async with bench.post("/v1/completions", {"model": "m", "prompt": "x", "logprobs": 2}) as reply:
        logprobs = (await reply.json())["choices"][0]["logprobs"]
    assert "".join(logprobs["tokens"]) == "Hello there"
    assert logprobs["text_offset"][0] == 0
    assert sorted(logprobs["text_offset"]) == logprobs["text_offset"]
    assert set(map(len, (logprobs["tokens"], logprobs["token_logprobs"], logprobs["top_logprobs"]))) == {
        len(logprobs["tokens"])
    }


async def test_the_first_text_leaves_before_the_second_token_is_made(bench: Bench):
    bench.say("Hello there")
    bench.core.gate = asyncio.Semaphore(1)
    async with bench.chat(stream=True) as reply:
        role = event((await reply.content.readuntil(b"\n\n")).decode().strip())
        first = event((await reply.content.readuntil(b"\n\n")).decode().strip())
        assert role["choices"][0]["delta"]["role"] == "assistant"
        assert first["choices"][0]["delta"]["content"]
        assert bench.core.made(bench.core.submitted[0].id) == 1


async def test_many_requests_at_once_keep_their_answers_apart(bench: Bench):
    bench.say(TEXT)
    bodies = await asyncio.gather(*(bench.chat_whole(max_tokens=limit) for limit in range(1, 17)))
    assert [body["usage"]["completion_tokens"] for body in bodies] == list(range(1, 17))
    assert len(await bench.records()) == 16


async def test_control_routes(bench: Bench):
    async with bench.http.get(f"{bench.url}/healthz") as reply:
        assert reply.status == 200
        assert await reply.json() == {
            "status": "ready", "model": "kindling/spark", "context_length": 1024, "active": 0, "waiting": 0,
        }  # fmt: skip
    async with bench.http.get(f"{bench.url}/lora") as reply:
        assert (await reply.json())["adapters"][0]["adapter"] == "ab" * 32
    async with bench.post("/lora/prefetch", {"adapter": "cd" * 32}) as reply:
        assert await reply.json() == {"ok": True}
    async with bench.post("/lora/check", {"adapter": "cd" * 32}) as reply:
        body = await reply.json()
        assert body["ok"]
        assert body["smoke_text"] == bench.text.decode([45])
    bench.core.loaded = AdapterLoaded(
        "",
        "cd" * 32,
        False,
        "values",
        "NaN",
        [Finding("files", "pass", "Fine."), Finding("values", "fail", "NaN")],
    )
    async with bench.post("/lora/check", {"adapter": "cd" * 32}) as reply:
        body = await reply.json()
        assert reply.status == 200
        assert not body["ok"]
        assert [finding["check"] for finding in body["findings"]] == ["values"]
        assert body["findings"][0]["fix"]
    failed, bench.core.loaded = (
        bench.core.loaded,
        AdapterLoaded("", "cd" * 32, False, ENGINE_FAILED, "No memory."),
    )
    async with bench.post("/lora/check", {"adapter": "cd" * 32}) as reply:
        # No verdict: an answer would reject the adapter.
        assert (reply.status, (await reply.json())["error"]["code"]) == (500, "internal_error")
    bench.core.loaded = failed
    async with bench.post("/lora/prefetch", {"adapter": "cd" * 32}) as reply:
        assert reply.status == 412
        assert (await reply.json())["error"]["code"] == "adapter_load_failed"
    assert [load.check for load in bench.core.loads] == [False, True, True, True, False]
    assert Path(bench.core.loads[0].path) == bench.front.blobs / ("cd" * 32)
    for name, status in (("ab" * 32, 200), ("cd" * 32, 404)):
        async with bench.post("/lora/pin", {"adapter": name, "pinned": True}) as reply:
            assert reply.status == status
        async with bench.post("/lora/unload", {"adapter": name}) as reply:
            assert await reply.json() == {"ok": True, "found": status == 200}
    async with bench.post("/lora/pin", {"adapter": "../x", "pinned": True}) as reply:
        assert reply.status == 400
    async with bench.http.get(f"{bench.url}/metrics") as reply:
        assert 'adapter_requests{adapter="' + "ab" * 32 + '",state="ready",tier="host"}' in await reply.text()
    async with bench.http.get(f"{bench.url}/nowhere") as reply:
        assert reply.status == 404
        assert (await reply.json())["error"]["code"] == "not_found"


async def test_usage_is_read_in_pages(bench: Bench):
    bench.say("x")
    for _ in range(3):
        await bench.chat_whole()
    seen, offset = [], 0
    while True:
        async with bench.http.get(f"{bench.url}/usage", params={"after": offset, "limit": 2}) as reply:
            body = await reply.json()
        assert body["log"]
        if not body["records"]:
            break
        seen += body["records"]
        offset = body["next"]
    assert [one["request_id"] for one in seen] == [one.id for one in bench.core.submitted]
    for params in ({"after": "-1"}, {"after": "x"}, {"limit": "99999999"}, {"after": "9" * 50}):
        async with bench.http.get(f"{bench.url}/usage", params=params) as reply:
            assert reply.status == 400
