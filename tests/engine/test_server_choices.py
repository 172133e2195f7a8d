"""Requests for several answers: n, several prompts, best_of; one record, one grant, one cancel for all."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from kindling_engine.server.starts import choice_seed
from kindling_fake_core import Bench, event, events, fake_bench

TEXTS = ["one fox", "two cats and a dog", "three"]
LONG = "Once upon a time there was a fox who said hello to everybody in the forest. " * 8


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with fake_bench(tmp_path) as made:
        yield made


async def completion(bench: Bench, **fields: Any) -> dict[str, Any]:
    async with bench.post(
        "/v1/completions", {"model": "m", "prompt": "Once", "max_tokens": 50} | fields
    ) as reply:
        assert reply.status == 200, await reply.text()
        return dict(await reply.json())


async def until(happened: Any) -> None:
    for _ in range(2000):
        if happened():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it did not happen")


def tokens_of(bench: Bench, text: str) -> int:
    return len(bench.text.tokenizer.encode(text, add_special_tokens=False).ids) + 1


async def test_n_answers_of_a_chat(bench: Bench):
    bench.say_each(*TEXTS)
    body = await bench.chat_whole(n=3, seed=7, headers={"request": "abc"})
    assert [choice["index"] for choice in body["choices"]] == [0, 1, 2]
    assert [choice["message"]["content"] for choice in body["choices"]] == TEXTS
    assert [one.id for one in bench.core.submitted] == ["abc/0", "abc/1", "abc/2"]
    assert len({tuple(one.prompt_ids) for one in bench.core.submitted}) == 1
    prompt = len(bench.core.submitted[0].prompt_ids)
    made = sum(tokens_of(bench, text) for text in TEXTS)
    assert (body["usage"]["prompt_tokens"], body["usage"]["completion_tokens"]) == (prompt, made)
    (record,) = await bench.records()
    assert (record.request_id, record.prompt_tokens, record.completion_tokens) == ("abc", prompt, made)
    assert record.finish == "stop"


async def test_each_choice_has_a_seed_of_its_own(bench: Bench):
    bench.say("x")
    await bench.chat_whole(n=4, seed=7)
    await bench.chat_whole(seed=7)
    await bench.chat_whole(n=2)
    seeds = [one.sampling.seed for one in bench.core.submitted]
    assert seeds[:4] == [choice_seed(7, index) for index in range(4)]
    assert len(set(seeds[:4])) == 4
    assert seeds[0] == seeds[4] == 7  # the first of several answers is the one that n=1 gives
    assert seeds[5:] == [None, None]


async def test_a_stream_carries_the_choices_side_by_side(bench: Bench):
    bench.say_each(*TEXTS)
    chunks = await bench.chat_events(n=3)
    texts: dict[int, str] = defaultdict(str)
    order, finished = [], []
    for chunk in chunks[:-2]:
        (choice,) = chunk["choices"]
        order.append(choice["index"])
        assert choice["index"] not in finished
        texts[choice["index"]] += choice["delta"].get("content", "")
        if choice["finish_reason"]:
            finished.append(choice["index"])
    assert dict(texts) == dict(enumerate(TEXTS))
    assert order[:3] == [0, 1, 2]
    assert [chunk["choices"][0]["delta"].get("role") for chunk in chunks[:3]] == ["assistant"] * 3
    assert sorted(finished) == [0, 1, 2]
    assert order[3:] != sorted(order[3:]), "choices come as they are made, not one after the other"
    assert chunks[-2]["choices"] == []
    assert chunks[-2]["usage"]["completion_tokens"] == sum(tokens_of(bench, text) for text in TEXTS)
    assert chunks[-1] == "[DONE]"


async def test_several_prompts_in_one_completion(bench: Bench):
    bench.say_each(*TEXTS)
    body = await completion(bench, prompt=["Once", [5, 6], "Once"], n=1)
    assert [(choice["index"], choice["text"]) for choice in body["choices"]] == list(enumerate(TEXTS))
    prompts = [one.prompt_ids for one in bench.core.submitted]
    assert prompts[0] == prompts[2] != prompts[1] == [5, 6]
    # A prompt that comes twice is computed and counted once.
    assert body["usage"]["prompt_tokens"] == len(prompts[0]) + 2
    (record,) = await bench.records()
    assert record.prompt_tokens == len(prompts[0]) + 2


async def test_several_prompts_with_several_answers_each(bench: Bench):
    bench.say_each("a", "b", "c", "d")
    async with bench.post(
        "/v1/completions", {"model": "m", "prompt": ["Once", "Twice"], "n": 2, "stream": True}
    ) as reply:
        chunks = events(await reply.read())
    texts: dict[int, str] = defaultdict(str)
    for chunk in chunks[:-2]:
        texts[chunk["choices"][0]["index"]] += chunk["choices"][0]["text"]
    assert dict(texts) == {0: "a", 1: "b", 2: "c", 3: "d"}
    first, second, third, fourth = (tuple(one.prompt_ids) for one in bench.core.submitted)
    assert first == second != third == fourth


async def test_best_of_gives_the_likeliest(bench: Bench):
    bench.say_each("aaa bbb", "b", "cc dd ee ff")
    body = await completion(bench, n=1, best_of=3, logprobs=1)
    assert all(one.logprobs == 1 for one in bench.core.submitted)
    # All tokens are equally likely here, so the first keeps its place; every token made is counted.
    assert [(choice["index"], choice["text"]) for choice in body["choices"]] == [(0, "aaa bbb")]
    made = sum(tokens_of(bench, text) for text in ("aaa bbb", "b", "cc dd ee ff"))
    assert body["usage"]["completion_tokens"] == made
    body = await completion(bench, best_of=2)
    assert body["choices"][0]["logprobs"] is None
    assert bench.core.submitted[-1].logprobs == 0


async def test_a_choice_that_stops_does_not_stop_the_others(bench: Bench):
    bench.say_each("one two three four", "five six seven eight")
    body = await bench.chat_whole(n=2, stop=" two", headers={"request": "abc"})
    assert [choice["message"]["content"] for choice in body["choices"]] == ["one", "five six seven eight"]
    assert [choice["finish_reason"] for choice in body["choices"]] == ["stop", "stop"]
    await until(lambda: bench.core.cancelled == ["abc/0"])


async def test_a_client_that_leaves_ends_all_choices_and_pays_for_what_was_made(bench: Bench):
    bench.say(LONG)
    bench.core.gate = asyncio.Semaphore(9)

    async def read() -> None:
        async with bench.chat(stream=True, n=3, headers={"request": "abc"}) as reply:
            await reply.read()

    asking = asyncio.ensure_future(read())
    await until(lambda: sum(bench.core.made(f"abc/{index}") for index in range(3)) == 9)
    asking.cancel()
    await until(lambda: sorted(bench.core.cancelled) == ["abc/0", "abc/1", "abc/2"])
    record = await bench.record_when_there()
    assert (record.request_id, record.finish, record.completion_tokens) == ("abc", "cancelled", 9)
    assert len(await bench.records()) == 1
    assert bench.front.active == 0


async def test_one_choice_that_fails_fails_the_request_free_of_charge(bench: Bench):
    bench.say(LONG)
    bench.core.fail_code, bench.core.fail_after = "engine_step_failed", 4
    chunks = await bench.chat_events(n=2)
    assert chunks[-1]["error"]["code"] == "engine_step_failed"
    (record,) = await bench.records()
    assert (record.finish, record.billable) == ("error", False)
    assert bench.front.core.open_requests == 0


# Grants.


async def test_choices_share_one_grant(bench: Bench):
    bench.say(LONG)
    body = await bench.chat_whole(n=3, max_tokens=100, headers={"grant": "20"})
    assert [one.grant for one in bench.core.submitted] == [7, 7, 6]
    assert body["usage"]["completion_tokens"] == 20
    assert [choice["finish_reason"] for choice in body["choices"]] == ["length"] * 3
    (record,) = await bench.records()
    assert (record.finish, record.completion_tokens) == ("grant_refused", 20)


async def test_what_one_choice_leaves_the_others_may_use(bench: Bench):
    bench.say_each("x", LONG)
    bench.core.park_s = 30.0
    short = tokens_of(bench, "x")
    body = await bench.chat_whole(n=2, max_tokens=60, headers={"grant": str(60 + short)})
    assert body["usage"]["completion_tokens"] == 60 + short
    assert body["choices"][1]["finish_reason"] == "length"
    assert (await bench.records())[0].finish == "length"


async def test_a_larger_grant_is_shared_out(bench: Bench):
    bench.say(LONG)
    bench.core.park_s = 30.0
    notices = []
    async with bench.chat(
        stream=True, n=4, max_tokens=50, headers={"request": "abc", "grant": "40"}
    ) as reply:
        async for raw in reply.content:
            if raw.startswith(b": grant"):
                notices.append(int(raw.split()[2]))
                async with bench.post("/requests/abc/grant", {"tokens": 40 + 40 * len(notices)}) as grant:
                    assert grant.status == 200
    assert notices == [40, 80, 120, 160]  # all that was granted is in somebody's hands by then
    (record,) = await bench.records()
    assert (record.completion_tokens, record.finish) == (200, "length")


async def test_a_grant_smaller_than_the_number_of_choices(bench: Bench):
    bench.say_each(LONG)
    body = await bench.chat_whole(n=4, max_tokens=10, headers={"grant": "2"})
    assert body["usage"]["completion_tokens"] == 2
    assert [choice["finish_reason"] for choice in body["choices"]] == ["length"] * 4


async def test_a_grant_is_never_exceeded_however_it_is_cut(bench: Bench):
    bench.say_each(LONG, "short", LONG, "a bit longer than short")
    for total in (1, 7, 33, 64, 65, 130):
        body = await bench.chat_whole(n=4, max_tokens=90, headers={"grant": str(total)})
        assert body["usage"]["completion_tokens"] <= total


# Echo and scoring.


async def test_echo_puts_the_prompt_in_front(bench: Bench):
    bench.say(" a time")
    body = await completion(bench, prompt="Once upon", echo=True)
    assert body["choices"][0]["text"] == "Once upon a time"
    assert bench.core.submitted[0].prompt_logprobs == -1
    ids = bench.text.tokenizer.encode("Once upon").ids
    body = await completion(bench, prompt=[ids], echo=True)
    assert body["choices"][0]["text"] == "Once upon a time"


async def test_echo_with_logprobs_covers_prompt_and_answer(bench: Bench):
    answer, prompt = bench.say(" wörld, 🦊!"), "Hello 🦊 there"
    ids = bench.text.tokenizer.encode(prompt).ids
    body = await completion(bench, prompt=prompt, echo=True, logprobs=1)
    logprobs, text = body["choices"][0]["logprobs"], body["choices"][0]["text"]
    assert text == "Hello 🦊 there wörld, 🦊!"
    assert len(logprobs["tokens"]) == len(ids) + len(answer) - 1  # the end of the sequence is not shown
    assert (logprobs["token_logprobs"][0], logprobs["top_logprobs"][0]) == (None, None)
    assert logprobs["token_logprobs"][1:] == [-1.5] * (len(ids) - 1) + [-0.5] * (len(answer) - 1)
    for token, offset in zip(logprobs["tokens"], logprobs["text_offset"], strict=True):
        assert token.startswith("bytes:") or text[offset:].startswith(token)
    for token, top in list(zip(logprobs["tokens"], logprobs["top_logprobs"], strict=True))[1:]:
        assert token in top, "the token itself is always among the reported"


async def test_scoring_makes_no_tokens(bench: Bench):
    bench.say("x")
    body = await completion(bench, prompt=["Once upon", "a time"], max_tokens=0, echo=True, logprobs=0)
    assert [choice["text"] for choice in body["choices"]] == ["Once upon", "a time"]
    assert [choice["finish_reason"] for choice in body["choices"]] == ["length"] * 2
    assert body["usage"]["completion_tokens"] == 0
    assert len(body["choices"][0]["logprobs"]["tokens"]) == len(bench.core.submitted[0].prompt_ids)
    assert [one.max_tokens for one in bench.core.submitted] == [1, 1]
    (record,) = await bench.records()
    assert (record.completion_tokens, record.finish) == (0, "length")


async def test_an_echo_is_streamed_first(bench: Bench):
    bench.say(" a time")
    body = {"model": "m", "prompt": "Once upon", "echo": True, "stream": True, "logprobs": 1}
    async with bench.post("/v1/completions", body) as reply:
        chunks = events(await reply.read())
    assert chunks[0]["choices"][0]["text"].startswith("Once upon")
    assert "".join(chunk["choices"][0]["text"] for chunk in chunks[:-2]) == "Once upon a time"
    entries = [
        token
        for chunk in chunks[:-2]
        for token in (chunk["choices"][0]["logprobs"] or {"tokens": []})["tokens"]
    ]
    assert "".join(entries) == "Once upon a time"


# Token ids.


async def test_token_ids_are_returned_whole_and_streamed(bench: Bench):
    tokens = bench.say("Hello 🦊 there")
    body = await bench.chat_whole(return_token_ids=True, n=2)
    prompt = bench.core.submitted[0].prompt_ids
    for choice in body["choices"]:
        assert (choice["token_ids"], choice["prompt_token_ids"]) == (tokens, prompt)
    for fields in ({"logprobs": True}, {}):
        chunks = await bench.chat_events(return_token_ids=True, **fields)
        streamed = [token for chunk in chunks[:-2] for token in chunk["choices"][0].get("token_ids", [])]
        assert streamed == tokens
        assert [chunk["choices"][0].get("prompt_token_ids") for chunk in chunks[:2]] == [prompt, None]
    plain = await completion(bench, return_token_ids=True, prompt=[5, 6])
    assert plain["choices"][0]["prompt_token_ids"] == [5, 6]
    assert "token_ids" not in (await bench.chat_whole())["choices"][0]


# Stops.


async def test_a_stop_string_may_be_kept_in_the_text(bench: Bench):
    bench.say("one two three four")
    body = await bench.chat_whole(stop=["ee f"], include_stop_str_in_output=True)
    assert body["choices"][0]["message"]["content"] == "one two three f"
    chunks = await bench.chat_events(stop=["ee f"], include_stop_str_in_output=True)
    assert "".join(c["choices"][0]["delta"].get("content", "") for c in chunks[:-2]) == "one two three f"


async def test_stop_strings_are_looked_for_behind_min_tokens(bench: Bench):
    tokens = bench.say("one two three one two three four")
    cut = await bench.chat_whole(stop=["two"])
    assert cut["choices"][0]["message"]["content"] == "one "
    half = tokens_of(bench, "one two three") - 1
    later = await bench.chat_whole(stop=["two"], min_tokens=half)
    assert later["choices"][0]["message"]["content"] == "one two three one "
    assert bench.core.submitted[-1].sampling.min_tokens == half
    assert len(tokens) > half


async def test_stop_tokens_reach_the_core_and_are_not_shown(bench: Bench):
    tokens = bench.say("one two three", end=False)
    bench.core.answer = tokens
    body = await bench.chat_whole(stop_token_ids=[tokens[-1]], max_tokens=len(tokens))
    assert bench.core.submitted[0].sampling.stop_token_ids == [tokens[-1]]
    assert body["usage"]["completion_tokens"] == len(tokens)


async def test_the_first_chunks_leave_before_all_choices_have_begun(bench: Bench):
    bench.say("Hello there")
    bench.core.gate = asyncio.Semaphore(1)
    async with bench.chat(stream=True, n=2) as reply:
        seen = [event((await reply.content.readuntil(b"\n\n")).decode().strip()) for _ in range(3)]
        assert [one["choices"][0]["index"] for one in seen[:2]] == [0, 1]
        assert seen[2]["choices"][0]["delta"]["content"]


# Prompts cut to a length.


async def test_a_long_chat_loses_its_oldest_turns(bench: Bench):
    bench.say("x")
    system = {"role": "system", "content": "Be kind."}
    turns = [
        message
        for index in range(6)
        for message in (
            {"role": "user", "content": f"Question {index} about foxes and the sea"},
            {"role": "assistant", "content": f"Answer {index}"},
        )
    ]
    last = {"role": "user", "content": "And now?"}
    lengths = []
    for start in (0, 2, 8):
        await bench.chat_whole(messages=[system, *turns[start:], last])
        lengths.append(len(bench.core.submitted[-1].prompt_ids))
    for limit, length in ((lengths[1], lengths[1]), (lengths[1] - 1, None), (lengths[2], lengths[2])):
        await bench.chat_whole(messages=[system, *turns, last], prompt_truncate_len=limit)
        ids = bench.core.submitted[-1].prompt_ids
        assert len(ids) <= limit
        assert length is None or len(ids) == length
        prompt = bench.text.tokenizer.decode(ids, skip_special_tokens=False)
        assert "Be kind." in prompt and "And now?" in prompt
    async with bench.chat(messages=[system, *turns, last], prompt_truncate_len=5) as reply:
        assert reply.status == 400
        assert (await reply.json())["error"]["param"] == "prompt_truncate_len"


async def test_a_long_plain_prompt_loses_its_beginning(bench: Bench):
    bench.say("!")
    ids = bench.text.tokenizer.encode("Once upon a time there was a fox").ids
    body = await completion(
        bench, prompt=["Once upon a time there was a fox", ids], prompt_truncate_len=3, echo=True
    )
    assert [one.prompt_ids for one in bench.core.submitted] == [ids[-3:]] * 2
    assert [choice["text"] for choice in body["choices"]] == [bench.text.decode(ids[-3:]) + "!"] * 2
