"""The client towards engines, against a server that says exactly what a test wants."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from kindling_platform.gateway.upstream import head_of
from kindling_platform.gateway.wire.line import HIGH_WATER_BYTES, CutError, Line, NotSentError
from kindling_platform.gateway.wire.pool import Lines, Place

WHOLE = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\ncontent-length: 2\r\n\r\n{}"
STREAM = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n"
)


@dataclass(slots=True)
class Scripted:
    """A server whose every request is answered with the next text; an empty one hangs up."""

    answers: list[bytes]
    port: int = 0
    asked: list[bytes] = field(default_factory=list)
    writers: list[asyncio.StreamWriter] = field(default_factory=list)

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writers.append(writer)
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                size = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
                self.asked.append(head + await reader.readexactly(size))
                answer = self.answers.pop(0) if self.answers else WHOLE
                writer.write(answer)
                if not answer or b"connection: close" in answer:
                    break
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    @property
    def connections(self) -> int:
        return len(self.writers)


@asynccontextmanager
async def scripted(*answers: bytes, **bounds: float) -> AsyncIterator[tuple[Scripted, Lines]]:
    server = Scripted(list(answers))
    listening = await asyncio.start_server(server.talk, "127.0.0.1", 0)
    server.port = listening.sockets[0].getsockname()[1]
    lines = Lines(**bounds)
    lines.open()
    try:
        yield server, lines
    finally:
        lines.close()
        listening.close()


async def ask(server: Scripted, lines: Lines, body: bytes = b"{}") -> Line:
    place = lines.place(f"http://127.0.0.1:{server.port}/base/")
    line = await lines.take(place)
    await line.ask(head_of(place, "POST", "/v1/x", {"x-one": "1"}, len(body)), body)
    return line


async def until(check) -> None:
    async with asyncio.timeout(60):
        while not check():
            await asyncio.sleep(0.01)


async def test_a_request_arrives_whole_and_its_answer_comes_back():
    async with scripted() as (server, lines):
        line = await ask(server, lines, b"body")
        assert (line.status, await line.whole(), await line.part()) == (200, b"{}", b"")
        assert line.headers[b"content-type"] == b"application/json"
        assert not line.is_event_stream
    (asked,) = server.asked
    assert asked.startswith(b"POST /base/v1/x HTTP/1.1\r\n")
    assert b"\r\nx-one: 1\r\n" in asked
    assert asked.endswith(b"\r\n\r\nbody")
    assert f"host: 127.0.0.1:{server.port}\r\n".encode() in asked


async def test_a_connection_is_kept_for_the_next_request_and_never_shared():
    async with scripted() as (server, lines):
        for _ in range(3):
            line = await ask(server, lines)
            await line.whole()
            line.close()
        assert server.connections == 1
        both = [await ask(server, lines), await ask(server, lines)]
        assert [await line.whole() for line in both] == [b"{}", b"{}"]
        assert server.connections == 2


@pytest.mark.parametrize(
    "answer",
    [
        WHOLE.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n"),
        b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n{}",
        b"HTTP/1.0 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\n{}",
    ],
)
async def test_an_engine_that_hangs_up_behind_its_answer_is_connected_to_again(answer: bytes):
    async with scripted(answer) as (server, lines):
        line = await ask(server, lines)
        assert await line.whole() == b"{}"
        line.close()
        again = await ask(server, lines)
        assert await again.whole() == b"{}"
        assert server.connections == 2


async def test_a_stream_comes_in_parts_as_they_are_sent():
    async with scripted(STREAM + b"5\r\nfirst\r\n") as (server, lines):
        line = await ask(server, lines)
        assert line.is_event_stream
        assert await line.part() == b"first"
        server.writers[0].write(b"6\r\nsecond\r\n5\r\nthird\r\n0\r\n\r\n")
        assert await line.whole() == b"secondthird"
        line.close()
        assert line.is_usable


async def test_an_answer_in_single_bytes_is_the_same_answer():
    async with scripted(b"H") as (server, lines):
        asked = asyncio.create_task(ask(server, lines))
        await until(lambda: server.asked)
        for byte in WHOLE[1:]:
            server.writers[0].write(bytes((byte,)))
            await server.writers[0].drain()
        line = await asked
        assert await line.whole() == b"{}"


async def test_what_an_engine_says_first_is_not_its_answer():
    async with scripted(b"HTTP/1.1 102 Processing\r\nx-early: 1\r\n\r\n" + WHOLE) as (server, lines):
        line = await ask(server, lines)
        assert (line.status, await line.whole()) == (200, b"{}")
        assert b"x-early" not in line.headers


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-le",
        b"what is this?\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\ncontent-length: 8\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n",
    ],
)
async def test_no_answer_and_nonsense_are_a_cut(answer: bytes):
    async with scripted(answer) as (server, lines):
        with pytest.raises(CutError):
            await ask(server, lines)


@pytest.mark.parametrize(
    "answer",
    [
        WHOLE[:-1].replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n"),
        STREAM.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n") + b"5\r\nfirst\r\n",
        STREAM + b"5\r\nfirst\r\nnonsense\r\n",
    ],
)
async def test_an_answer_that_breaks_off_gives_what_came_and_then_a_cut(answer: bytes):
    async with scripted(answer) as (server, lines):
        line = await ask(server, lines)
        assert await line.part() in (b"{", b"first")
        with pytest.raises(CutError):
            await line.part()


async def test_an_engine_that_answers_twice_gets_no_other_request_on_that_line():
    async with scripted(WHOLE + WHOLE) as (server, lines):
        line = await ask(server, lines)
        assert await line.whole() == b"{}"
        line.close()
        assert not line.is_usable
        assert await (await ask(server, lines)).whole() == b"{}"
        assert server.connections == 2


async def test_leaving_an_answer_ends_its_line_and_the_engine_sees_it():
    async with scripted(STREAM + b"5\r\nfirst\r\n") as (server, lines):
        line = await ask(server, lines)
        line.close()
        await until(server.writers[0].is_closing)
        with pytest.raises(CutError):
            while await line.part():
                pass


async def test_a_request_that_is_cancelled_while_it_waits_ends_its_line():
    async with scripted(b"HTTP/1.1") as (server, lines):
        asked = asyncio.create_task(ask(server, lines))
        await until(lambda: server.asked)
        asked.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asked


async def test_an_engine_waits_while_nobody_takes_what_it_has_sent():
    size = 64 * HIGH_WATER_BYTES
    head = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % size
    async with scripted(head) as (server, lines):
        line = await ask(server, lines)
        writer = server.writers[0]
        writer.write(b"x" * size)
        part = await line.part()
        # A part is what was there: the rest waits with the engine, not in this process.
        assert len(part) < size // 2
        assert len(part) + len(await line.whole()) == size


async def test_nobody_there_is_not_sent():
    async with scripted() as (server, _):
        pass
    other = Lines()
    other.open()
    with pytest.raises(NotSentError):
        await other.take(other.place(f"http://127.0.0.1:{server.port}"))
    other.close()
    with pytest.raises(NotSentError):
        await other.take(other.place(f"http://127.0.0.1:{server.port}"))


@pytest.mark.parametrize("url", ["", "ftp://x", "http://", "http://x:port", "http://[::1", "http://ü.x"])
def test_a_url_that_leads_nowhere_is_not_sent(url: str):
    with pytest.raises(NotSentError):
        Place.of(url)


@pytest.mark.parametrize("value", ["a\r\nx-kindling-tenant: org_other", "a\nb", "a\rb"])
def test_no_header_can_begin_another(value: str):
    with pytest.raises(NotSentError):
        head_of(Place.of("http://x"), "POST", "/", {"x-session-affinity": value}, 0)


async def test_a_line_that_nobody_needs_is_closed():
    async with scripted(keep_alive_s=0.05) as (server, lines):
        line = await ask(server, lines)
        assert (await line.whole()).endswith(b"}")
        line.close()
        await until(server.writers[0].is_closing)


async def test_an_engine_that_says_nothing_for_too_long_is_cut():
    async with scripted(STREAM, silence_s=0.05) as (server, lines):
        line = await ask(server, lines)
        with pytest.raises(CutError):
            await line.part()
