"""Several gateways as processes of their own on one world, and clients that keep all of them busy."""

import asyncio
import socket
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from kindling_gateway import World, eventually
from kindling_nursery import KEPT, Forked

Call = Callable[[httpx.AsyncClient], Awaitable[None]]


class GatewayProcess:
    """A gateway that can be killed; `limit_requests_per_minute=60` sets KINDLING_LIMIT_REQUESTS_PER_MINUTE."""

    def __init__(self, world: World, log: Path, **settings: object) -> None:
        named = {f"KINDLING_{name.upper()}": str(value) for name, value in settings.items()}
        where = {"KINDLING_DATABASE_URL": world.url, "KINDLING_HOME": str(world.home)}
        environment = where | {"KINDLING_LOG_LEVEL": "ERROR"} | named
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            listener.listen(512)
            self.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
            self.process = Forked(
                "kindling_gateway_process", str(KEPT), log=log, kept=listener.fileno(), **environment
            )

    def __enter__(self) -> "GatewayProcess":
        eventually(lambda: is_up(self.url) or self.process.poll() is not None, seconds=60)
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def kill(self) -> None:
        """End it the way the kernel does when memory runs out."""
        self.process.kill()
        self.process.wait()


@contextmanager
def gateway_processes(world: World, count: int, folder: Path, **settings: object) -> Iterator[list[str]]:
    """The URLs of so many running gateways, with settings as above."""
    started = [GatewayProcess(world, folder / f"gateway-{number}.log", **settings) for number in range(count)]
    try:
        for gateway in started:
            eventually(lambda url=gateway.url: is_up(url), seconds=60)
        yield [gateway.url for gateway in started]
    finally:
        for gateway in started:
            gateway.kill()


def is_up(url: str) -> bool:
    try:
        return httpx.get(f"{url}/healthz", timeout=5).json()["status"] == "ok"
    except httpx.HTTPError:
        return False


async def keep_busy(urls: list[str], key: str, call: Call, *, each: int, going: Callable[[], bool]) -> None:
    """So many clients at each URL make calls one after another while it is going."""

    async def work(url: str) -> None:
        headers = {"Authorization": f"Bearer {key}"}
        async with httpx.AsyncClient(base_url=url, headers=headers, timeout=60) as client:
            while going():
                await call(client)

    await asyncio.gather(*(work(url) for url in urls for _ in range(each)))


def for_seconds(seconds: float) -> Callable[[], bool]:
    """True for so long from now."""
    until = time.monotonic() + seconds
    return lambda: time.monotonic() < until
