"""The client's side of the bench: requests over kept connections, as cheap as Python can send them."""

import asyncio
import itertools
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass

import orjson

TIMEOUT_S = 60.0
END_OF_LINE = "\r\n"
STREAM_END = b"0\r\n\r\n"


class LoadError(Exception):
    """An answer was not what it has to be; the message shows its beginning."""


@dataclass(frozen=True, slots=True)
class Target:
    """Who is asked, for which model, with which key, and with which header lines besides."""

    port: int
    model: str
    key: str
    headers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Load:
    """One kind of request; `words` is how many an answer has, one in each chunk of a stream."""

    name: str
    words: int
    stream: bool


def load_run(
    target: Target, load: Load, *, connections: int, requests: int, leaving: float = 0.0
) -> list[float]:
    """Send all requests; seconds each answer took, in the order of their ends.

    `leaving` is the share of streams whose client hangs up after the first bytes; they are in no figure.
    Errors: LoadError.
    """
    return asyncio.run(_run(target, load, connections, requests, leaving))


async def _run(target: Target, load: Load, connections: int, requests: int, leaving: float) -> list[float]:
    took_s: list[float] = []
    turns = iter(range(requests))
    clients = (
        _client(target, load, turns, took_s, leaving=leaving, seed=seed) for seed in range(connections)
    )
    await asyncio.gather(*clients)
    return took_s


async def _client(
    target: Target, load: Load, turns: Iterator[int], took_s: list[float], *, leaving: float, seed: int
) -> None:
    dice = random.Random(seed)  # noqa: S311
    request = request_bytes(target, load)
    line: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
    for _ in turns:
        if line is None:
            line = await asyncio.open_connection("127.0.0.1", target.port)
        reader, writer = line
        begun = time.perf_counter()
        writer.write(request)
        async with asyncio.timeout(TIMEOUT_S):
            if dice.random() < leaving:
                await reader.read(1)
                writer.transport.abort()
                line = None
                continue
            await answer_read(reader)
        took_s.append(time.perf_counter() - begun)
    if line:
        line[1].close()


def request_bytes(target: Target, load: Load) -> bytes:
    """The whole request as it goes over the wire."""
    body = orjson.dumps(
        {
            "model": target.model,
            "messages": [{"role": "user", "content": "Tell me of the sea, in a few words."}],
            "max_tokens": load.words,
            "stream": load.stream,
        }
    )
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1:{target.port}\r\n"
        f"authorization: Bearer {target.key}\r\ncontent-type: application/json\r\n"
        f"content-length: {len(body)}\r\n{''.join(f'{line}{END_OF_LINE}' for line in target.headers)}\r\n"
    )
    return head.encode() + body


async def answer_read(reader: asyncio.StreamReader) -> None:
    """Read one answer to its end. Errors: LoadError unless it is a 200 that is complete."""
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    at = head.find(b"content-length:")
    if at >= 0:
        body = await reader.readexactly(int(head[at + 15 : head.index(b"\r\n", at)]))
    else:
        body = await _chunks_read(reader)
    if b" 200 " not in head[:16] or (at < 0 and b"[DONE]" not in body):
        raise LoadError((head[:120] + b" ... " + body[-400:]).decode(errors="replace"))


async def _chunks_read(reader: asyncio.StreamReader) -> bytes:
    tail = b""
    for _ in itertools.count():
        part = await reader.read(65_536)
        if not part:
            break
        tail = (tail + part)[-2048:]
        if tail.endswith(STREAM_END):
            return tail
    raise LoadError(f"the stream was cut; its end: {tail[-400:]!r}")
