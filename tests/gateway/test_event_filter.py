"""The event filter, fed in pieces of any size."""

import json

from hypothesis import given
from hypothesis import strategies as st

from kindling_platform.gateway.admission import Usage
from kindling_platform.gateway.events import EventFilter


def chunk(text: str) -> bytes:
    body = {"choices": [{"index": 0, "delta": {"content": text}}]}
    return b"data: " + json.dumps(body, separators=(",", ":")).encode() + b"\n\n"


USAGE = b'data: {"choices":[],"usage":{"prompt_tokens":7,"completion_tokens":3,"prompt_tokens_details":' \
    b'{"cached_tokens":2}}}\n\n'  # fmt: skip
DONE = b"data: [DONE]\n\n"
texts = st.lists(
    st.sampled_from(
        ["a", "\n\n", ": grant 5\n\n", '"usage":{"x":1}', "data: [DONE]", '"error":', "ü" * 9, ""]
    ),
    max_size=12,
)


@given(texts, st.lists(st.integers(1, 400), max_size=30), st.booleans())
def test_pieces_of_any_size_give_the_same_stream(words: list[str], cuts: list[int], keep: bool):
    seen = b"".join(map(chunk, words))
    stream = seen + b": grant 448\n\n" + USAGE + DONE
    events = EventFilter(keep_usage=keep)
    out = b""
    for size in cuts:
        out += events.feed(stream[:size])
        stream = stream[size:]
    out += events.feed(stream) if stream else b""
    assert out == seen + (USAGE if keep else b"") + DONE
    assert events.usage == Usage(7, 2, 3)
    assert (events.made, events.done, events.failed) == (448, True, False)


def test_nothing_is_held_back_longer_than_its_event():
    events = EventFilter(keep_usage=False)
    assert events.feed(chunk("a")[:-1]) == b""
    assert events.feed(b"\n" + chunk("b")[:5]) == chunk("a")


def test_usage_beside_choices_stays():
    both = b'data: {"choices":[{"index":0}],"usage":{"prompt_tokens":1}}\n\n'
    events = EventFilter(keep_usage=False)
    assert events.feed(both) == both
    assert events.usage == Usage(1, 0, 0)


def test_a_comment_before_data_is_cut_out_alone():
    events = EventFilter(keep_usage=False)
    assert events.feed(b": grant 12\n" + chunk("a")) == chunk("a")
    assert events.feed(b": keep-alive\n\n") == b": keep-alive\n\n"
