"""Every way a request can end: stop strings, grants, clients that leave, a core that dies, a full disk."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from kindling_engine.protocol.usage_log import UsageLogError, read_usage
from kindling_engine.server import control
from kindling_fake_core import Bench, event, events, fake_bench, text_of

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


# Stop strings.


async def test_a_stop_string_across_tokens_ends_the_answer(bench: Bench):
    tokens = bench.say(LONG)
    stop = "me there w"  # begins and ends inside tokens
    body = await bench.chat_whole(stop=stop)
    assert body["choices"][0]["message"]["content"] == "Once upon a ti"
    assert body["choices"][0]["finish_reason"] == "stop"
    counted = body["usage"]["completion_tokens"]
    # As many tokens as it takes to complete the stop string, and not one more.
    assert stop in bench.text.decode(tokens[:counted])
    assert stop not in bench.text.decode(tokens[: counted - 1])
    record = (await bench.records())[0]
    assert (record.finish, record.completion_tokens) == ("stop", counted)
    await until(lambda: bench.core.cancelled == [record.request_id])


async def test_a_stream_never_shows_any_of_a_stop_string(bench: Bench):
    bench.say("one two three four")
    chunks = await bench.chat_events(stop=["threes", "ee f"])
    assert text_of(chunks) == "one two thr"
    assert chunks[-3]["choices"][0]["finish_reason"] == "stop"


async def test_held_back_text_comes_at_the_end_if_it_was_no_stop(bench: Bench):
    bench.say("one two thre")
    chunks = await bench.chat_events(stop="three")
    assert text_of(chunks) == "one two thre"
    assert bench.core.cancelled == []


async def test_a_stop_string_in_the_last_token_still_counts(bench: Bench):
    tokens = bench.say("one two", end=False)
    body = await bench.chat_whole(stop="two", max_tokens=len(tokens))
    assert body["choices"][0]["message"]["content"] == "one "
    assert body["choices"][0]["finish_reason"] == "stop"


async def test_logprobs_end_where_the_text_does(bench: Bench):
    bench.say("one two three four")
    body = await bench.chat_whole(stop=" three", logprobs=True)
    said = b"".join(bytes(one["bytes"]) for one in body["choices"][0]["logprobs"]["content"])
    assert said.decode() == body["choices"][0]["message"]["content"] == "one two"


# Grants.


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


# Clients that leave.


@pytest.mark.parametrize("stream", [True, False])
async def test_a_client_that_leaves_is_cancelled_and_pays_for_what_was_made(bench: Bench, stream: bool):
    bench.say(LONG)
    bench.core.gate = asyncio.Semaphore(7)
    asking = asyncio.ensure_future(_read(bench, stream))
    await until(lambda: bench.core.submitted and bench.core.made(bench.core.submitted[0].id) == 7)
    asking.cancel()
    await until(lambda: bench.core.cancelled)
    record = await bench.record_when_there()
    assert record.finish == "cancelled"
    assert record.completion_tokens == 7
    assert record.billable
    assert bench.front.active == 0


async def _read(bench: Bench, stream: bool) -> None:
    async with bench.chat(stream=stream) as reply:
        await reply.read()


async def test_a_client_that_leaves_before_the_first_token(bench: Bench):
    bench.say(LONG)
    bench.core.gate = asyncio.Semaphore(0)
    asking = asyncio.ensure_future(_read(bench, True))
    await until(lambda: bench.core.submitted)
    asking.cancel()
    record = await bench.record_when_there()
    assert (record.finish, record.completion_tokens, record.first_token_ms) == ("cancelled", 0, None)


async def test_a_client_that_stops_reading_is_hung_up_on(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    async def never(response: web.StreamResponse, data: bytes) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr("kindling_engine.server.inference.WRITE_TIMEOUT_S", 0.05)
    monkeypatch.setattr(web.StreamResponse, "write", never)
    bench.say(LONG)
    bench.core.gate = asyncio.Semaphore(5)
    with pytest.raises(aiohttp.ClientError):
        async with bench.chat(stream=True) as reply:
            await reply.read()
    record = await bench.record_when_there()
    assert (record.finish, record.completion_tokens) == ("cancelled", 5)


async def test_leaving_after_the_end_makes_no_second_record(bench: Bench):
    bench.say("short")
    async with bench.chat(stream=True) as reply:
        while b"[DONE]" not in await reply.content.readany():
            pass
    await until(lambda: not bench.front.active)
    assert [record.finish for record in await bench.records()] == ["stop"]
    assert bench.core.cancelled == []


# Records come first.


async def test_the_record_is_there_when_the_last_chunk_arrives(bench: Bench):
    bench.say("short")
    async with bench.chat(stream=True) as reply:
        while b'"usage"' not in await reply.content.readany():
            pass
        assert len(read_usage(bench.front.book.path, 0, 10)[1]) == 1


@pytest.mark.parametrize("stream", [True, False])
async def test_no_record_no_answer(bench: Bench, monkeypatch: pytest.MonkeyPatch, stream: bool):
    def full(record: object) -> None:
        raise UsageLogError("No space left on device")

    monkeypatch.setattr(bench.front.book, "append", full)
    bench.say("short")
    async with bench.chat(stream=stream) as reply:
        raw = await reply.read()
    assert b'"usage"' not in raw
    assert b"[DONE]" not in raw
    assert b"usage_not_recorded" in raw
    assert reply.status == (200 if stream else 500)


async def test_nothing_is_taken_in_when_the_disk_is_full(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("os.statvfs", lambda path: SimpleNamespace(f_bavail=10, f_frsize=4096))
    async with bench.chat() as reply:
        assert reply.status == 503
        assert (await reply.json())["error"]["code"] == "engine_unavailable"
    assert bench.core.submitted == []


# Failures.


async def test_a_core_that_dies_ends_a_stream_with_an_error(bench: Bench):
    bench.say(LONG)
    bench.core.gate = asyncio.Semaphore(5)
    async with bench.chat(stream=True) as reply:
        await until(lambda: bench.front.get(bench.core.submitted[0].id).completion_tokens == 5)
        bench.core.die()
        chunks = events(await reply.read())
    assert chunks[-1]["error"]["code"] == "engine_unavailable"
    record = (await bench.records())[0]
    assert (record.finish, record.completion_tokens, record.billable) == ("error", 5, False)
    async with bench.chat() as reply:
        assert reply.status == 503
    async with bench.http.get(f"{bench.url}/healthz") as reply:
        assert (reply.status, (await reply.json())["status"]) == (503, "failed")


async def test_a_core_that_dies_fails_whole_answers_and_loads(bench: Bench):
    bench.say(LONG)
    bench.core.gate = asyncio.Semaphore(5)
    asking = bench.chat()
    waiting = asyncio.ensure_future(asking.__aenter__())
    await until(lambda: bench.core.submitted)
    bench.core.die()
    reply = await waiting
    assert reply.status == 503
    assert (await reply.json())["error"]["code"] == "engine_unavailable"
    assert "retry-after" in reply.headers
    assert [record.finish for record in await bench.records()] == ["error"]
    async with bench.post("/lora/check", {"adapter": "ab" * 32}) as refused:
        assert refused.status == 503


@pytest.mark.parametrize(
    ("code", "status"),
    [("adapter_load_failed", 412), ("context_length_exceeded", 400), ("non_finite_logits", 500)],
)
async def test_what_the_core_refuses_is_a_status_before_the_first_byte(bench: Bench, code: str, status: int):
    bench.say("x")
    bench.core.fail_code = code
    for stream in (True, False):
        async with bench.chat(stream=stream) as reply:
            assert reply.status == status
            assert (await reply.json())["error"]["code"] == code
    assert [record.finish for record in await bench.records()] == ["error", "error"]


async def test_what_goes_wrong_later_is_an_event(bench: Bench):
    bench.say(LONG)
    bench.core.fail_code, bench.core.fail_after = "engine_step_failed", 4
    chunks = await bench.chat_events()
    assert chunks[-1]["error"]["code"] == "engine_step_failed"
    assert "[DONE]" not in chunks
    assert (await bench.records())[0].completion_tokens == 4


async def test_a_request_id_runs_once_at_a_time(bench: Bench):
    bench.say(LONG)
    bench.core.gate = asyncio.Semaphore(3)
    async with bench.chat(stream=True, headers={"request": "same"}) as reply:
        await reply.content.readany()
        async with bench.chat(headers={"request": "same"}) as second:
            assert second.status == 409
        for _ in range(500):
            bench.core.gate.release()
        assert (await reply.read()).endswith(b"[DONE]\n\n")
    assert len(await bench.records()) == 1


# The end of the server.


async def test_a_draining_server_finishes_what_runs_and_refuses_the_rest(bench: Bench):
    bench.say(LONG)
    bench.core.gate = asyncio.Semaphore(3)
    async with bench.chat(stream=True) as reply:
        await reply.content.readany()
        draining = asyncio.ensure_future(bench.front.drain(60.0))
        await until(lambda: bench.front.draining)
        async with bench.chat() as refused:
            assert refused.status == 503
            assert (await refused.json())["error"]["code"] == "engine_unavailable"
        for _ in range(500):
            bench.core.gate.release()
        assert (await reply.read()).endswith(b"[DONE]\n\n")
    await asyncio.wait_for(draining, 30)  # long before its time
    assert [record.finish for record in await bench.records()] == ["stop"]


async def test_what_does_not_end_in_time_is_ended_free_of_charge(bench: Bench):
    bench.say(LONG)
    bench.core.gate = asyncio.Semaphore(3)
    async with bench.chat(stream=True) as reply:
        await reply.content.readany()
        await bench.front.drain(0.05)
        assert events(await reply.read())[-1]["error"]["code"] == "engine_unavailable"
    record = (await bench.records())[0]
    assert (record.finish, record.billable) == ("error", False)
