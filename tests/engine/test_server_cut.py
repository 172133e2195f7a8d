"""What a client's own grammar or adapter makes an end of is cut there and billed; what never began costs nothing."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from kindling_engine.server.chat_reply import ChatReply
from kindling_engine.server.choice import Piece
from kindling_fake_core import Bench, fake_bench, text_of

ADAPTER = {"adapter": "ab" * 32}
CUT = [("constraint_dead_end", {}), ("constraint_dead_end", ADAPTER), ("non_finite_logits", ADAPTER)]


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with fake_bench(tmp_path) as made:
        yield made


@pytest.mark.parametrize(("code", "headers"), CUT)
@pytest.mark.parametrize("stream", [False, True])
async def test_an_answer_that_has_begun_ends_where_it_is(
    bench: Bench, code: str, headers: dict, stream: bool
):
    tokens = bench.say("one two three four")
    bench.core.fail_code, bench.core.fail_after = code, 3
    said = bench.text.decode(tokens[:3])
    if stream:
        chunks = await bench.chat_events(headers=headers)
        assert text_of(chunks) == said
        assert chunks[-3]["choices"][0]["finish_reason"] == "length"
    else:
        body = await bench.chat_whole(headers=headers)
        assert body["choices"][0]["message"]["content"] == said
        assert body["choices"][0]["finish_reason"] == "length"
        assert body["usage"]["completion_tokens"] == 3
    (record,) = await bench.records()
    assert (record.finish, record.completion_tokens) == ("length", 3)


@pytest.mark.parametrize(
    ("code", "after", "headers", "status"),
    [
        ("constraint_dead_end", 0, {}, 400),
        ("non_finite_logits", 0, ADAPTER, 500),
        ("non_finite_logits", 3, {}, 500),
        ("engine_step_failed", 3, ADAPTER, 500),
    ],
)
async def test_what_we_fail_at_and_what_never_began_is_free(
    bench: Bench, code: str, after: int, headers: dict, status: int
):
    bench.say("one two three four")
    bench.core.fail_code, bench.core.fail_after = code, after
    async with bench.chat(headers=headers) as reply:
        assert reply.status == status
        assert (await reply.json())["error"]["code"] == code
    (record,) = await bench.records()
    assert record.finish == "error"


async def test_a_stream_that_we_fail_to_write_ends_with_an_error_and_is_free(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    """It may not stay open: whoever reads it would wait for ever."""
    bench.say("one two three four")
    events, told = ChatReply.piece_events, []

    def failing(reply: ChatReply, piece: Piece) -> bytes:
        told.append(piece)
        gate.release()  # the next token
        if len(told) > 1:
            raise ValueError("one two")
        return events(reply, piece)

    monkeypatch.setattr(ChatReply, "piece_events", failing)
    bench.core.gate = gate = asyncio.Semaphore(1)
    chunks = await bench.chat_events()
    assert chunks[-1]["error"]["code"] == "internal_error"
    (record,) = await bench.records()
    assert record.finish == "error"
    assert "ValueError" in caplog.text and "one two" not in caplog.text


@pytest.mark.parametrize(
    ("written", "stream"), [("whole", False), ("piece_events", True), ("end_events", True)]
)
async def test_an_end_that_we_fail_to_write_is_free(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, written: str, stream: bool
):
    """All of it was made; the client gets an error in its place."""
    bench.say("one two three four")

    def failing(*_: object) -> bytes:
        raise ValueError("one two")

    monkeypatch.setattr(ChatReply, written, failing)
    if stream:
        chunks = await bench.chat_events()
        assert chunks[-1]["error"]["code"] == "internal_error"
    else:
        async with bench.chat() as reply:
            assert reply.status == 500
            assert (await reply.json())["error"]["code"] == "internal_error"
    (record,) = await bench.records()
    assert record.finish == "error"


async def test_one_of_several_answers_that_is_cut_leaves_the_others_to_be_billed(bench: Bench):
    tokens = bench.say("one two three four", end=False)
    bench.core.fail_code, bench.core.fail_after = "constraint_dead_end", 3
    body = await bench.chat_whole(n=2, max_tokens=len(tokens))
    assert [one["finish_reason"] for one in body["choices"]] == ["length", "length"]
    (record,) = await bench.records()
    assert (record.finish, record.completion_tokens) == ("length", 6)


@pytest.mark.parametrize("begun", [False, True])
async def test_who_leaves_before_the_engine_began_owes_no_prompt(bench: Bench, begun: bool):
    bench.say("one two three four")
    bench.core.gate = asyncio.Semaphore(0)
    if not begun:
        bench.core.told = {"prompt_tokens": 0}
    asking = asyncio.create_task(bench.chat_whole())
    while not bench.core.submitted:
        await asyncio.sleep(0.01)
    asking.cancel()
    record = await bench.record_when_there()
    assert (record.finish, record.completion_tokens) == ("cancelled", 0)
    assert record.prompt_tokens == (len(bench.core.submitted[0].prompt_ids) if begun else 0)
