"""Every way a request can end: stop strings, grants, clients that leave, a core that dies, a full disk."""

import asyncio
import json
import socket
import uuid
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from kindling_engine.protocol.ipc import Cancel
from kindling_engine.protocol.usage_log import UsageLogError, read_usage
from kindling_fake_core import Bench, events, fake_bench, text_of

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


async def test_what_lies_behind_a_stop_string_is_not_counted_for_a_client_that_left_either(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
):
    tokens = bench.say("one two three four five")
    counted = (await bench.chat_whole(stop=" three"))["usage"]["completion_tokens"]
    assert 0 < counted < len(tokens)
    # All of them come in one item, on their way when the client left.
    handle = bench.core._handle

    def late(message: Any) -> None:
        if isinstance(message, Cancel):
            bench.core._item(message.id, token_ids=tokens)
        handle(message)

    monkeypatch.setattr(bench.core, "_handle", late)
    bench.core.gate = asyncio.Semaphore(0)
    asking = asyncio.ensure_future(bench.chat_whole(stop=" three"))
    await until(lambda: len(bench.core.submitted) == 2)
    asking.cancel()
    record = await bench.record_when_there(2)
    assert (record.finish, record.completion_tokens) == ("cancelled", counted)
    assert bench.front.active == 0


async def test_a_client_that_leaves_before_the_first_token(bench: Bench):
    bench.say(LONG)
    bench.core.gate = asyncio.Semaphore(0)
    asking = asyncio.ensure_future(_read(bench, True))
    await until(lambda: bench.core.submitted)
    asking.cancel()
    record = await bench.record_when_there()
    assert (record.finish, record.completion_tokens, record.first_token_ms) == ("cancelled", 0, None)


async def test_a_client_that_stops_reading_is_hung_up_on(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("kindling_engine.server.inference.WRITE_TIMEOUT_S", 0.05)
    bench.core.answer = [300] * 960
    bench.core.gate = asyncio.Semaphore(600)
    body = json.dumps(
        {
            "model": "long name, said in each chunk" * 400,
            "prompt": "Hi",
            "stream": True,
            "max_tokens": 960,
        }
    )
    with socket.socket() as client:
        # So little fits on the way that the front soon has to keep the rest.
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(client, ("127.0.0.1", int(bench.url.rsplit(":", 1)[1])))
        head = f"POST /v1/completions HTTP/1.1\r\nhost: a\r\nx-kindling-request: {uuid.uuid4()}\r\n"
        await loop.sock_sendall(client, f"{head}content-length: {len(body)}\r\n\r\n{body}".encode())
        record = await bench.record_when_there()
    assert record.finish == "cancelled"
    assert 0 < record.completion_tokens <= 600


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
        draining = asyncio.ensure_future(bench.front.drain(600))
        await until(lambda: bench.front.draining)
        async with bench.chat() as refused:
            assert refused.status == 503
            assert (await refused.json())["error"]["code"] == "engine_unavailable"
        for _ in range(500):
            bench.core.gate.release()
        assert (await reply.read()).endswith(b"[DONE]\n\n")
    await asyncio.wait_for(draining, 60)  # long before its time
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
