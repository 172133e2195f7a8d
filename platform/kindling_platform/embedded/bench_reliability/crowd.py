"""Clients that keep several gateways busy, and what they were told."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import aiohttp

Call = Callable[[aiohttp.ClientSession, str], Awaitable[None]]


@dataclass(slots=True)
class Heard:
    """One answer: its request's id, its status, and when it was asked for and came, by a clock that never goes back."""

    request_id: str
    status: int
    began: float
    ended: float
    headers: dict[str, str] = field(default_factory=dict)


async def ask(
    client: aiohttp.ClientSession, url: str, body: dict[str, object] | None = None, *, timeout_s: float = 60
) -> Heard:
    """POST a body, or GET without one, and read the answer to its end; status 0 when the connection failed."""
    began, limit = time.monotonic(), aiohttp.ClientTimeout(total=timeout_s)
    method = "GET" if body is None else "POST"
    try:
        async with client.request(method, url, json=body, timeout=limit) as reply:
            await reply.read()
            headers = {name.lower(): value for name, value in reply.headers.items()}
            return Heard(headers.get("x-request-id", ""), reply.status, began, time.monotonic(), headers)
    except (aiohttp.ClientError, OSError, TimeoutError):
        return Heard("", 0, began, time.monotonic())


async def keep_busy(urls: list[str], key: str, call: Call, *, each: int, going: Callable[[], bool]) -> None:
    """So many clients at each URL call one after the other while it is going."""

    async def work(client: aiohttp.ClientSession, url: str) -> None:
        while going():
            await call(client, url)

    connector, headers = aiohttp.TCPConnector(limit=0), {"Authorization": f"Bearer {key}"}
    async with aiohttp.ClientSession(headers=headers, connector=connector) as client:
        await asyncio.gather(*(work(client, url) for url in urls for _ in range(each)))


def for_seconds(seconds: float) -> Callable[[], bool]:
    """True for so long from now."""
    until = time.monotonic() + seconds
    return lambda: time.monotonic() < until
