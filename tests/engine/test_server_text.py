"""Tokens to text: whole characters only, stop strings cut, the same however the text was cut into parts."""

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models

from kindling_engine.protocol.sampling import TokenLogprobs
from kindling_engine.server.detokenizer import Detokenizer
from kindling_engine.server.harmony.marks import MESSAGE, START
from kindling_engine.server.model_text import ModelText, TextTooLongError, model_text_load
from kindling_engine.server.output_text import OutputText
from kindling_engine.server.stop_strings import StopMatcher
from kindling_engine.starter import SPARK_PATH
from kindling_examples import examples

TEXT = model_text_load(SPARK_PATH)
BYTE_TOKENS = [TEXT.tokenizer.token_to_id(chr(char)) for char in (0xE2, 0xC3, 0xA9, 0x41)]
token_ids = st.lists(st.integers(0, 2047), max_size=40)
# Single bytes, most of which are only part of a character.
pieces = st.lists(st.sampled_from(sorted(TEXT.tokenizer.get_vocab().values())[5:261]), max_size=40)


def joined(tokenizer: Tokenizer, ids: list[int]) -> str:
    detokenizer = Detokenizer(tokenizer)
    return "".join([*(detokenizer.feed(one) for one in ids), detokenizer.flush()])


@settings(max_examples=examples(300), deadline=None)
@given(token_ids | pieces)
def test_the_parts_of_any_tokens_join_to_the_whole(ids: list[int]):
    assert joined(TEXT.tokenizer, ids) == TEXT.decode(ids)


@settings(max_examples=examples(200), deadline=None)
@given(st.text(max_size=60))
def test_no_part_of_a_text_holds_half_a_character(text: str):
    ids = TEXT.tokenizer.encode(text, add_special_tokens=False).ids
    detokenizer = Detokenizer(TEXT.tokenizer)
    for one in ids:
        assert (
            "\ufffd" not in detokenizer.feed(one).replace("\ufffd" * text.count("\ufffd"), "")
            or "\ufffd" in text
        )
    assert detokenizer.flush() == "" or "\ufffd" in text


def sentencepiece_like() -> Tokenizer:
    """A tokenizer whose decoder joins words, spells bytes, and strips the first blank."""
    words = ["▁Once", "▁upon", "▁", "a", "▁time", "!", "<0xF0>", "<0x9F>", "<0xA6>", "<0x8A>", "</s>"]
    tokenizer = Tokenizer(models.WordLevel({word: index for index, word in enumerate(words)}, unk_token="a"))
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.add_special_tokens(["</s>"])
    return tokenizer


@pytest.mark.parametrize(
    "ids", [[0, 1, 3, 4, 5], [2, 1, 4], [2, 2, 0, 0], [10, 10, 0, 10, 1], [0, 6, 7, 8, 9, 1], [0, 1, 6, 7]]
)
def test_a_decoder_that_treats_the_first_token_differently(ids: list[int]):
    tokenizer = sentencepiece_like()
    assert joined(tokenizer, ids) == tokenizer.decode(ids)


@pytest.mark.parametrize("broken", range(1, 16))
@pytest.mark.parametrize("rest", [[6, 7, 8, 9, 3], [6, 7, 8, 9], [6, 7, 3], [3]])
def test_a_character_behind_many_broken_ones_stays_whole(broken: int, rest: list[int]):
    tokenizer = sentencepiece_like()
    tokenizer.add_tokens(["\ufffd"])
    ids = [0, *[tokenizer.token_to_id("\ufffd")] * broken, *rest]
    assert joined(tokenizer, ids) == tokenizer.decode(ids)


def test_endless_special_tokens_cost_little():
    seen = []

    class Watched:
        def decode(self, ids: list[int], skip_special_tokens: bool = True) -> str:
            seen.append(len(ids))
            return str(TEXT.tokenizer.decode(ids, skip_special_tokens=skip_special_tokens))

    detokenizer = Detokenizer(Watched())
    for one in [2] * 500 + [300, 301] + [2] * 500 + BYTE_TOKENS[:1] * 500:
        detokenizer.feed(one)
    assert max(seen) < 40


def test_bytes_of_a_token():
    for text in ("Hello", " wörld", "🦊"):
        ids = TEXT.tokenizer.encode(text, add_special_tokens=False).ids
        assert b"".join(TEXT.token_bytes(one) for one in ids).decode() == text
    assert TEXT.token_bytes(2) == b"<|im_end|>"
    assert TEXT.token_text(2) == "<|im_end|>"


# Stop strings.

letters = st.text("ab", max_size=12)
stops = st.lists(st.text("ab", min_size=1, max_size=4), min_size=1, max_size=3)


def cut_by_definition(text: str, stop_strings: list[str]) -> tuple[str, str]:
    """Character by character: at the first end of a stop string, the longest one that ends there."""
    for end in range(1, len(text) + 1):
        found = [stop for stop in stop_strings if text[:end].endswith(stop)]
        if found:
            longest = max(found, key=len)
            return text[: end - len(longest)], longest
    return text, ""


@settings(max_examples=examples(500), deadline=None)
@given(parts=st.lists(letters, max_size=8), stop_strings=stops)
def test_stop_strings_are_found_however_the_text_is_cut(parts: list[str], stop_strings: list[str]):
    expected, stop = cut_by_definition("".join(parts), stop_strings)
    matcher, out = StopMatcher(stop_strings), ""
    for part in parts:
        out += matcher.feed(part)
        assert expected.startswith(out)
        if matcher.matched:
            break
    assert matcher.matched == stop
    assert out + matcher.flush() == expected


@given(letters, stops)
def test_no_more_is_held_back_than_could_become_a_stop(text: str, stop_strings: list[str]):
    matcher = StopMatcher(stop_strings)
    matcher.feed(text)
    if not matcher.matched:
        held = text[len(text) - matcher.held_chars :]
        assert held == "" or any(stop.startswith(held) for stop in stop_strings)


# Both together.


@settings(max_examples=examples(150), deadline=None)
@given(ids=token_ids, stop_ids=st.lists(st.integers(5, 2047), max_size=3))
def test_text_and_logprobs_agree_with_the_definition(ids: list[int], stop_ids: list[int]):
    stop_strings = [
        text for text in (TEXT.decode([one]) for one in stop_ids) if text and "\ufffd" not in text
    ]
    output, shown, entries = OutputText(TEXT.tokenizer, stop_strings), "", []
    for one in ids:
        stopped = output.accept(one, TokenLogprobs(-1.0))
        text, new = output.take()
        shown, entries = shown + text, entries + new
        assert all(entry.offset < len(shown) for entry in new)
        if stopped:
            break
    else:
        output.end()
        text, new = output.take()
        shown, entries = shown + text, entries + new
        if not stop_strings:
            assert len(entries) == len(ids)
    assert shown == cut_by_definition(TEXT.decode(ids), stop_strings)[0]
    assert [entry.token_id for entry in entries] == ids[: len(entries)]


# Encoding.


def test_a_mark_stands_for_itself_and_ends_what_was_held_back():
    marks = {1: START, 2: MESSAGE}
    half = TEXT.tokenizer.encode("é", add_special_tokens=False).ids[:1]
    words = TEXT.tokenizer.encode("final stop", add_special_tokens=False).ids
    output = OutputText(TEXT.tokenizer, ["final", "stop", "\ufffdf"], marks=marks, min_tokens=len(words))
    told = [output.accept(token) for token in (*words, 1, *words, 2, *half, 2)]
    assert not any(told)
    assert output.take()[0] == f"final stop{START}final stop{MESSAGE}\ufffd{MESSAGE}"
    assert [output.accept(token) for token in words[:3]] == [False, False, True]
    assert output.matched == "final"


async def test_a_text_that_cannot_fit_is_refused_without_being_encoded(monkeypatch: pytest.MonkeyPatch):
    from kindling_engine.server.model_text import TextTooLongError

    monkeypatch.setattr(ModelText, "_encode", lambda *_: pytest.fail("it was encoded"))
    with pytest.raises(TextTooLongError):
        await TEXT.encode("a" * 8_000_000, add_special_tokens=False, context_length=1024)


async def test_long_and_short_texts_are_encoded_alike():
    text = "The fox said hello. " * 1000
    ids = await TEXT.encode(text, add_special_tokens=False, context_length=100_000)
    assert ids == TEXT.tokenizer.encode(text, add_special_tokens=False).ids


async def test_others_go_on_while_a_long_text_is_encoded():
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            await asyncio.sleep(0.005)
            ticks += 1

    ticking = asyncio.ensure_future(tick())
    await TEXT.encode("The fox said hello. " * 40_000, add_special_tokens=False, context_length=1_000_000)
    ticking.cancel()
    assert ticks > 2, "encoding held the loop"


async def test_parts_are_encoded_each_by_itself():
    parts = ["The fox", " said", "<|im_end|>"[:1], "<|im_end|>"[1:], "", "hello"] * 1000
    ids = await TEXT.encode_parts(parts, context_length=1_000_000)
    alone = [TEXT.tokenizer.encode(part, add_special_tokens=False).ids for part in parts[:6]]
    assert ids == [token for one in alone for token in one] * 1000
    assert await TEXT.encode_parts(parts[:6], context_length=1_000_000) == ids[: len(ids) // 1000]
    assert await TEXT.encode_parts([], context_length=1) == []


async def test_many_parts_that_cannot_fit_are_not_all_encoded(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("kindling_engine.server.model_text.PARTS_AT_ONCE", 10)
    with pytest.raises(TextTooLongError):
        await TEXT.encode_parts(["a b c"] * 11, context_length=5)
    # With nothing left to encode, the caller is told how many tokens there are.
    assert len(await TEXT.encode_parts(["a b c"] * 10, context_length=5)) >= 30
