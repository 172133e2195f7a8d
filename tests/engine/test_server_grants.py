"""Grants over HTTP: more is asked for in time, and what is not granted ends."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from kindling_engine.protocol.usage_log import UsageRecord
from kindling_engine.server import control
from kindling_fake_core import Bench, event, events, fake_bench

LONG = "Once upon a time there was a fox who said hello to everybody in the forest. " * 8


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with fake_bench(tmp_path) as made:
        yield made


async def until(happened: Callable[[], object]) -> None:
    for _ in range(2000):
        if happened():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it did not happen")


async def test_more_is_asked_for_before_the_grant_ends(bench: Bench):
    tokens = bench.say(LONG)
    bench.core.park_s = 30.0
    total = min(len(tokens), 150)
    async with bench.chat(stream=True, max_tokens=total, headers={"grant": "100"}) as reply:
        seen = []
        while chunk := await reply.content.readuntil(b"\n\n"):
            seen.append(event(chunk.decode().strip()))
            if isinstance(seen[-1], str) and seen[-1].startswith(": grant"):
                url = f"/requests/{bench.core.submitted[0].id}/grant"
                async with bench.post(url, {"tokens": 1000}) as grant:
                    assert await grant.json() == {"tokens": 1000}
            if seen[-1] == "[DONE]":
                break
    notices = [one for one in seen if isinstance(one, str) and one != "[DONE]"]
    assert len(notices) == 1
    assert int(notices[0].removeprefix(": grant ")) >= 36
    assert (await bench.records())[0].completion_tokens == total
    assert (await bench.records())[0].finish in {"length", "stop"}


async def test_a_grant_that_is_not_extended_ends_the_answer(bench: Bench):
    bench.say(LONG)
    chunks = await bench.chat_events(max_tokens=200, headers={"grant": "10"})
    notices = [one for one in chunks if isinstance(one, str) and one.startswith(": grant ")]
    assert len(notices) == 1
    assert chunks[-3]["choices"][0]["finish_reason"] == "length"
    assert chunks[-2]["usage"]["completion_tokens"] == 10
    record = (await bench.records())[0]
    assert (record.finish, record.completion_tokens, record.billable) == ("grant_refused", 10, True)


async def test_each_new_grant_brings_one_notice(bench: Bench):
    bench.say(LONG)
    bench.core.park_s = 30.0
    seen = []
    async with bench.chat(stream=True, max_tokens=40, headers={"grant": "10"}) as reply:
        async for raw in reply.content:
            if raw.startswith(b": grant"):
                seen.append(int(raw.split()[2]))
                path = f"/requests/{bench.core.submitted[0].id}/grant"
                async with bench.post(path, {"tokens": 10 * (len(seen) + 1)}) as grant:
                    assert grant.status == 200
    assert len(seen) == 3  # at 10, 20 and 30; a grant of 40 is all it may make
    assert bench.core.granted[-1] == (bench.core.submitted[0].id, 40)


async def test_no_notice_without_need(bench: Bench):
    bench.say(LONG)
    chunks = await bench.chat_events(max_tokens=20, headers={"grant": "20"})
    assert [one for one in chunks if isinstance(one, str)] == ["[DONE]"]


async def test_a_request_that_is_stopped_ends_where_it_is(bench: Bench):
    bench.say(LONG)
    bench.core.gate = asyncio.Semaphore(3)
    async with bench.chat(stream=True, headers={"request": "abc"}, n=2) as reply:
        await until(lambda: bench.core.gate.locked())
        await reply.content.readany()
        for _ in range(2):  # twice is as good as once
            async with bench.post("/requests/abc/stop", {}) as stopped:
                assert stopped.status in (200, 404)
        chunks = events(await reply.read())
    finishes = [
        chunk["choices"][0]["finish_reason"] for chunk in chunks if chunk != "[DONE]" and chunk["choices"]
    ]
    assert finishes.count("length") == 2
    assert chunks[-1] == "[DONE]"
    record = (await bench.records())[0]
    assert (record.finish, record.billable) == ("length", True)
    assert record.completion_tokens == chunks[-2]["usage"]["completion_tokens"] <= 3
    await until(lambda: len(bench.core.cancelled) == 2)
    async with bench.post("/requests/abc/stop", {}) as gone:
        assert gone.status == 404


@pytest.mark.parametrize("stream", [False, True])
async def test_one_that_is_stopped_before_it_has_begun_is_free(bench: Bench, stream: bool):
    bench.say(LONG)
    bench.core.gate, bench.core.told = asyncio.Semaphore(0), {"prompt_tokens": 0}
    status, body, record = await _stopped(bench, stream=stream)
    assert (status, body["error"]["code"]) == (504, "deadline_exceeded")
    assert (record.finish, record.billable) == ("error", False)


async def test_one_that_is_stopped_while_its_prompt_is_read_costs_that(bench: Bench):
    bench.say(LONG)
    bench.core.gate, bench.core.cached_tokens = asyncio.Semaphore(0), 4
    status, body, record = await _stopped(bench)
    assert (status, body["choices"][0]["finish_reason"]) == (200, "length")
    usage = body["usage"]
    assert (record.prompt_tokens, record.cached_tokens, record.completion_tokens) == (
        usage["prompt_tokens"],
        4,
        0,
    )
    assert usage["prompt_tokens_details"]["cached_tokens"] == 4


async def _stopped(bench: Bench, **fields: Any) -> tuple[int, Any, UsageRecord]:
    """Of a request whose core has said nothing when it is stopped: status, body and record."""

    async def ask() -> tuple[int, Any]:
        async with bench.chat(headers={"request": "abc"}, **fields) as reply:
            return reply.status, await reply.json()

    asked = asyncio.create_task(ask())
    await until(lambda: bool(bench.core.submitted))
    async with bench.post("/requests/abc/stop", {}) as stopped:
        assert await stopped.json() == {"tokens": 0}
    status, body = await asked
    (record,) = await bench.records()
    return status, body, record


async def test_a_grant_never_shrinks_and_needs_a_running_request(bench: Bench):
    bench.say(LONG)
    bench.core.gate = asyncio.Semaphore(2)
    async with bench.chat(stream=True, headers={"request": "abc", "grant": "100"}) as reply:
        await reply.content.readany()
        for tokens, holds in ((50, 100), (300, 300), (300, 300)):
            async with bench.post("/requests/abc/grant", {"tokens": tokens}) as grant:
                assert await grant.json() == {"tokens": holds}
        for body, param in (({}, "tokens"), ({"tokens": 0}, "tokens"), ({"tokens": 1, "x": 1}, "x")):
            async with bench.post("/requests/abc/grant", body) as grant:
                assert grant.status == 400
                assert (await grant.json())["error"]["param"] == param
    await until(lambda: not bench.front.active)
    async with bench.post("/requests/abc/grant", {"tokens": 5}) as grant:
        assert grant.status == 404
        assert (await grant.json())["error"]["code"] == "unknown_request"
    assert bench.core.granted == [("abc", 300)]


async def test_a_whole_answer_can_be_granted_more_too(bench: Bench):
    tokens = bench.say(LONG)
    bench.core.park_s = 30.0
    asking = asyncio.ensure_future(bench.chat_whole(headers={"request": "abc", "grant": "10"}))
    await until(lambda: bench.core.made("abc") == 10)
    async with bench.post("/requests/abc/grant", {"tokens": 1000}) as grant:
        assert grant.status == 200
    assert (await asking)["usage"]["completion_tokens"] == len(tokens)


async def test_a_whole_answer_says_when_its_grant_ends_to_those_who_wait(bench: Bench):
    tokens = bench.say(LONG)
    bench.core.park_s, bench.core.gate = 30.0, asyncio.Semaphore(0)
    asking = asyncio.ensure_future(bench.chat_whole(headers={"request": "abc", "grant": "66"}))
    await until(lambda: bench.core.submitted)
    looking = asyncio.ensure_future(look(bench))
    bench.core.gate.release()
    await until(lambda: bench.core.made("abc") == 1)
    await asyncio.sleep(0)
    assert not looking.done()
    bench.core.gate.release()
    assert await looking == (200, {"tokens": 2, "short": True})
    assert (await look(bench))[0] == 200  # it stays so until more is granted
    async with bench.post("/requests/abc/grant", {"tokens": 5000}) as grant:
        assert grant.status == 200
    looking = asyncio.ensure_future(look(bench))
    for _ in tokens:
        bench.core.gate.release()
    assert (await asking)["usage"]["completion_tokens"] == len(tokens)
    status, body = await looking
    assert (status, body["error"]["code"]) == (404, "unknown_request")
    assert (await look(bench))[0] == 404


async def test_who_waits_for_a_grants_end_hears_after_a_while_that_it_has_not_come(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(control, "GRANT_WAIT_S", 0.01)
    bench.say(LONG)
    bench.core.gate = asyncio.Semaphore(1)
    asking = asyncio.ensure_future(bench.chat_whole(headers={"request": "abc", "grant": "500"}))
    await until(lambda: bench.core.made("abc") == 1)
    assert await look(bench) == (200, {"tokens": 1, "short": False})
    asking.cancel()


async def look(bench: Bench) -> tuple[int, dict[str, Any]]:
    async with bench.http.get(f"{bench.url}/requests/abc/grant") as reply:
        return reply.status, await reply.json()
