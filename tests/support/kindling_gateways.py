"""Several gateways as processes of their own on one world, and clients that keep all of them busy."""

import asyncio
import os
import socket
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from kindling_gateway import World, eventually

SCRIPT = """
import sys, uvicorn
from kindling_platform.config.env import load_env
from kindling_platform.gateway.app import create_app
from kindling_platform.gateway.lifespan import asgi_application
# An idle connection that is closed while a client takes it up again is no failure of the gateway.
app = asgi_application(create_app(load_env()))
uvicorn.run(app, fd=int(sys.argv[1]), access_log=False, log_level="warning", timeout_keep_alive=75)
"""
Call = Callable[[httpx.AsyncClient], Awaitable[None]]


class GatewayProcess:
    """A gateway that can be killed; `limit_requests_per_minute=60` sets KINDLING_LIMIT_REQUESTS_PER_MINUTE."""

    def __init__(self, world: World, log: Path, **settings: object) -> None:
        named = {f"KINDLING_{name.upper()}": str(value) for name, value in settings.items()}
        where = {"KINDLING_DATABASE_URL": world.url, "KINDLING_HOME": str(world.home)}
        environment = os.environ | where | {"KINDLING_LOG_LEVEL": "ERROR"} | named
        with socket.socket() as listener, log.open("ab") as out:
            listener.bind(("127.0.0.1", 0))
            listener.listen(512)
            self.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
            fd = listener.fileno()
            command = [sys.executable, "-c", SCRIPT, str(fd)]
            self.process = subprocess.Popen(command, env=environment, pass_fds=(fd,), stdout=out, stderr=out)

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
