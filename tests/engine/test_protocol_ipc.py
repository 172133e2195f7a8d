"""Messages survive the socket in any cut, and nothing malformed gets further than FrameError."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kindling_engine.protocol.ipc import (
    LENGTH,
    MAX_FRAME_BYTES,
    Cancel,
    CoreReady,
    Finding,
    FrameBuffer,
    FrameError,
    LoadAdapter,
    Sampling,
    SetGrant,
    Step,
    StepItem,
    Submit,
    TokenLogprobs,
    decode_to_core,
    decode_to_front,
    encode,
)

TO_CORE = [
    Submit("a", [1, 2, 3], sampling=Sampling(temperature=0.5, seed=-1, logit_bias={7: -1.5}), logprobs=3),
    SetGrant("a", 512),
    Cancel("a"),
    LoadAdapter("b", "0" * 64, "/blobs/x", check=True),
]
TO_FRONT = [
    CoreReady(1024, 2048, [2, 0], "cpu", "float32", 100),
    Step([StepItem("a", [5], [TokenLogprobs(-0.5, [(5, -0.5), (6, -1.0)])], finish="stop", prompt_tokens=3)]),
]


@given(st.lists(st.integers(1, 40), max_size=30))
def test_messages_arrive_whole_however_they_are_cut(cuts: list[int]):
    stream = b"".join(encode(message) for message in TO_CORE)
    buffer, seen = FrameBuffer(), []
    for size in cuts:
        part, stream = stream[:size], stream[size:]
        seen += [decode_to_core(body) for body in buffer.feed(part)]
    seen += [decode_to_core(body) for body in buffer.feed(stream)]
    assert seen == TO_CORE


def test_messages_to_the_front_arrive():
    bodies = FrameBuffer().feed(b"".join(encode(message) for message in TO_FRONT))
    assert [decode_to_front(body) for body in bodies] == TO_FRONT


def test_a_frame_that_claims_too_much_is_refused_before_it_is_read():
    with pytest.raises(FrameError):
        list(FrameBuffer().feed(LENGTH.pack(MAX_FRAME_BYTES + 1)))


@given(st.binary(max_size=200))
def test_random_bytes_are_refused(body: bytes):
    for decode in (decode_to_core, decode_to_front):
        with pytest.raises(FrameError):
            decode(body)


def test_a_message_of_the_other_direction_is_refused():
    with pytest.raises(FrameError):
        decode_to_core(encode(TO_FRONT[0])[4:])


def test_findings_keep_their_fields():
    assert Finding("rank", "fail", "Too high.", "Train again.") == Finding(
        check="rank", level="fail", message="Too high.", fix="Train again."
    )
