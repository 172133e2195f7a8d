"""What the front has sent is with the core at its next turn, and a prompt that many share is sent once."""

import asyncio
import socket
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kindling_engine.core import link
from kindling_engine.core.link import FrontLink
from kindling_engine.protocol.ipc import (
    Cancel,
    FrameBuffer,
    FrameError,
    SetGrant,
    Submit,
    SubmitAgain,
    encode,
)
from kindling_engine.protocol.repeats import ToCoreReader, ToCoreWriter
from kindling_engine.protocol.sampling import Sampling
from kindling_engine.server.core_link import CoreLink, CoreTicket

LONG = list(range(60_000, 90_000))


@pytest.fixture
def ends(tmp_path: Path):
    """The core's link, and the front's socket."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        listener.listen(1)
        core = FrontLink(tmp_path / "s")
        front, _ = listener.accept()
    with front:
        yield core, front
    core.close()


def test_one_poll_reads_all_that_the_socket_holds(ends, monkeypatch):
    core, front = ends
    monkeypatch.setattr(link, "_READ_BYTES", 64)
    sent = [Cancel(f"request-{index}") for index in range(500)]
    front.sendall(b"".join(map(encode, sent)))
    assert core.poll(0.0) == sent and core.poll(0.0) == []


def test_a_grant_behind_more_prompts_than_the_socket_holds_comes_with_them(ends, monkeypatch):
    core, front = ends
    monkeypatch.setattr(link, "_REST_MS", 30_000)
    sent = [*(Submit(f"prompt-{index}", LONG) for index in range(12)), SetGrant("somebody's", 512)]
    sender = threading.Thread(target=front.sendall, args=(b"".join(map(encode, sent)),))
    sender.start()
    assert core.poll(30.0) == sent
    sender.join()


def test_who_sends_without_end_keeps_no_step_waiting(ends, monkeypatch):
    core, front = ends
    monkeypatch.setattr(link, "_READ_BYTES", 64)
    monkeypatch.setattr(link, "_POLL_BYTES", 1024)
    sent = [Cancel(f"request-{index}") for index in range(500)]
    front.sendall(b"".join(map(encode, sent)))
    seen = core.poll(0.0)
    assert 0 < len(seen) < 100
    while seen != sent:
        seen += core.poll(0.0)


def test_the_half_of_a_frame_holds_the_core_up_for_a_moment_only(ends):
    core, front = ends
    frame = encode(SetGrant("a", 512))
    front.sendall(frame[:5])
    assert core.poll(0.0) == []
    front.sendall(frame[5:])
    assert core.poll(0.0) == [SetGrant("a", 512)]


def test_what_came_before_the_front_went_is_still_read(ends):
    core, front = ends
    front.sendall(encode(Cancel("a")))
    front.close()
    assert core.poll(0.0) == [Cancel("a")]
    core.poll(0.0)
    assert core.closed


def test_choices_of_one_prompt_cost_the_socket_one_prompt():
    async def sent() -> bytes:
        front, transport = CoreLink(), _Transport()
        front.connection_made(transport)
        for index in range(16):
            front.submit(_choice(index, LONG), CoreTicket())
        return bytes(transport.sent)

    stream = asyncio.run(sent())
    assert len(stream) < 1.1 * len(encode(_choice(0, LONG)))
    reader = ToCoreReader()
    seen = [reader.decode(body) for body in FrameBuffer().feed(stream)]
    assert seen == [_choice(index, LONG) for index in range(16)]


def test_requests_that_differ_in_anything_else_are_sent_whole():
    writer, first = ToCoreWriter(), _choice(0, LONG)
    others = [
        Submit(first.id, [*LONG[:-1], 5], sampling=first.sampling, max_tokens=64, grant=first.grant),
        Submit(first.id, LONG, sampling=first.sampling, max_tokens=64, grant=first.grant, tenant="another"),
        Submit(first.id, LONG, sampling=Sampling(temperature=0.5), max_tokens=64, grant=first.grant),
    ]
    whole = [encode(message) for message in (first, *others)]
    assert [writer.encode(message) for message in (first, *others)] == whole


_MESSAGES = st.one_of(
    st.builds(Cancel, st.sampled_from("ab")),
    st.builds(
        Submit,
        st.sampled_from("abc"),
        st.sampled_from([[], [1], [1, 2], [1, 3]]),
        tenant=st.sampled_from(["", "t"]),
        grant=st.integers(0, 3),
        sampling=st.builds(
            Sampling, temperature=st.sampled_from([0.0, 1.0]), seed=st.sampled_from([None, 7])
        ),
    ),
)


@given(st.lists(_MESSAGES, max_size=12))
def test_every_message_is_read_as_it_was_written(messages):
    writer, reader = ToCoreWriter(), ToCoreReader()
    stream = b"".join(map(writer.encode, messages))
    assert [reader.decode(body) for body in FrameBuffer().feed(stream)] == messages


def test_a_request_like_the_one_before_it_needs_one_before_it():
    with pytest.raises(FrameError):
        ToCoreReader().decode(encode(SubmitAgain("a", 1, None))[4:])


def _choice(index: int, prompt: list[int]) -> Submit:
    return Submit(f"r/{index}", prompt, max_tokens=64, grant=index, sampling=Sampling(seed=index))


class _Transport(asyncio.Transport):
    """Keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.sent = bytearray()

    def write(self, data) -> None:
        self.sent += data
