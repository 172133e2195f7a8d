"""Plain completions that ask for much: what is bounded, and what is looked at first."""

import threading
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kindling_engine.protocol.sampling import TokenLogprobs
from kindling_engine.server import completion_body
from kindling_engine.server.errors import ApiError
from kindling_engine.server.logprobs import TokenNames, completion_logprobs
from kindling_engine.server.model_text import ModelText, model_text_load
from kindling_engine.server.output_text import TokenEntry
from kindling_engine.starter import SPARK_PATH
from kindling_fake_core import Bench, fake_bench

TEXT = model_text_load(SPARK_PATH)


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with fake_bench(tmp_path) as made:
        made.say("x")
        yield made


def asked(bench: Bench, **fields: Any) -> Any:
    body = {"model": "m", "max_tokens": 1, "echo": True, "logprobs": 5, **fields}
    return bench.post("/v1/completions", body)


async def refusal(bench: Bench, **fields: Any) -> dict[str, Any]:
    async with asked(bench, **fields) as reply:
        assert reply.status == 400, await reply.text()
        return dict((await reply.json())["error"])


async def accepted(bench: Bench, **fields: Any) -> dict[str, Any]:
    async with asked(bench, **fields) as reply:
        assert reply.status == 200, await reply.text()
        return dict(await reply.json())


# Echoed log-probabilities.


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"prompt": [[5] * 1000] * 8, "n": 16}, "n"),
        ({"prompt": [[5] * 1000] * 8, "best_of": 16}, "best_of"),
        ({"prompt": [[5] * 1000] * 66}, "prompt"),
        ({"prompt": ["word " * 900] * 100}, "prompt"),
    ],
)
async def test_echoed_scores_are_bounded_over_all_answers(bench: Bench, fields: dict[str, Any], named: str):
    error = await refusal(bench, **fields)
    assert (error["code"], error["param"]) == ("invalid_value", named)
    assert "65536" in error["message"]
    assert bench.core.submitted == []


async def test_echo_without_scores_and_scores_without_echo_have_no_such_bound(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(completion_body, "MAX_ECHOED_SCORES", 10)
    bench.front.facts = replace(bench.front.facts, context_length=10)
    prompt = [[5, 6, 7], [5, 6]]
    await refusal(bench, prompt=prompt, n=3)
    await accepted(bench, prompt=prompt, n=2)
    await accepted(bench, prompt=prompt, n=3, logprobs=None)
    await accepted(bench, prompt=prompt, n=3, echo=False)


async def test_one_prompt_that_fits_the_context_can_always_be_scored(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(completion_body, "MAX_ECHOED_SCORES", 10)
    body = await accepted(bench, prompt=[5] * 1000)
    assert len(body["choices"][0]["logprobs"]["tokens"]) == 1001
    assert (await refusal(bench, prompt=[5] * 1000, n=2))["param"] == "n"


async def test_no_prompt_is_encoded_behind_the_one_that_is_too_many(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(completion_body, "MAX_ECHOED_SCORES", 2000)
    encoded, encode = [], ModelText.encode

    async def watched(self: ModelText, text: str, **options: Any) -> list[int]:
        encoded.append(text)
        return await encode(self, text, **options)

    monkeypatch.setattr(ModelText, "encode", watched)
    assert (await refusal(bench, prompt=["a b " * 400] * 50))["param"] == "prompt"
    assert len(encoded) < 6


def test_a_token_is_named_once_however_many_answers_tell_it():
    named = []

    class Watched(ModelText):
        def token_text(self, token_id: int) -> str:
            named.append(token_id)
            return super().token_text(token_id)

    names = TokenNames(Watched(TEXT.tokenizer, None))
    entries = [
        TokenEntry(one, TokenLogprobs(-1.0, [(one + 1, -0.5), (one, -1.0)]), 3) for one in (300, 301, 300)
    ]
    told = [completion_logprobs(entries, names) for _ in range(16)]
    assert sorted(named) == [300, 301, 302]
    first, second = TEXT.token_text(300), TEXT.token_text(301)
    assert told[0]["tokens"] == [first, second, first]
    assert told[0]["top_logprobs"][0] == {second: -0.5, first: -1.0}


# Token ids.


class Uncounted(list[int]):
    """A list whose members nobody may look at."""

    def __iter__(self) -> Any:
        pytest.fail("every token id was looked at")


async def test_the_number_of_token_ids_is_looked_at_first(bench: Bench):
    for truncate_to in (None, 1024):
        with pytest.raises(ApiError) as refused:
            completion_body._checked(Uncounted([5] * 5000), bench.front.facts, truncate_to)
        assert (refused.value.code, refused.value.param) == ("context_length_exceeded", "prompt")
    assert "1024 tokens" in refused.value.message


async def test_too_many_token_ids_are_told_with_both_numbers(bench: Bench):
    for prompt in ([5] * 5000, [5000] * 5000, ["a", [5] * 5000]):
        error = await refusal(bench, prompt=prompt, logprobs=None)
        assert (error["code"], error["param"]) == ("context_length_exceeded", "prompt")
        assert "5000 tokens" in error["message"]
        assert "1024 tokens" in error["message"]


async def test_only_the_ids_that_are_kept_count(bench: Bench):
    await accepted(bench, prompt=[5] * 5000 + [6, 7], prompt_truncate_len=3)
    assert bench.core.submitted[-1].prompt_ids == [5, 6, 7]
    error = await refusal(bench, prompt=[5] * 5000 + [2048], prompt_truncate_len=3)
    assert (error["code"], error["param"]) == ("invalid_value", "prompt")


async def test_large_bodies_are_checked_in_a_thread_and_alike(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(completion_body, "INLINE_BODY_BYTES", 10)
    checked, check = [], completion_body._checked

    def watched(*given: Any) -> Any:
        checked.append(threading.current_thread() is threading.main_thread())
        return check(*given)

    monkeypatch.setattr(completion_body, "_checked", watched)
    await accepted(bench, prompt=[[5, 6], "Hi"])
    assert checked == [False, False]
    assert (await refusal(bench, prompt=[[5, 6], [True]]))["param"] == "prompt"
