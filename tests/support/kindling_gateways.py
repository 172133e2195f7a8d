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
uvicorn.run(asgi_application(create_app(load_env())), fd=int(sys.argv[1]), access_log=False, log_level="warning")
"""
Call = Callable[[httpx.AsyncClient], Awaitable[None]]


@contextmanager
def gateway_processes(world: World, count: int, folder: Path, **settings: object) -> Iterator[list[str]]:
    """The URLs of so many running gateways; `limit_requests_per_minute=60` sets KINDLING_LIMIT_REQUESTS_PER_MINUTE."""
    named = {f"KINDLING_{name.upper()}": str(value) for name, value in settings.items()}
    environment = (
        os.environ
        | {
            "KINDLING_DATABASE_URL": world.url,
            "KINDLING_HOME": str(world.home),
            "KINDLING_LOG_LEVEL": "ERROR",
        }
        | named
    )
    started: list[subprocess.Popen[bytes]] = []
    urls = []
    try:
        for number in range(count):
            with socket.socket() as listener, (folder / f"gateway-{number}.log").open("wb") as log:
                listener.bind(("127.0.0.1", 0))
                listener.listen(512)
                urls.append(f"http://127.0.0.1:{listener.getsockname()[1]}")
                fd = listener.fileno()
                command = [sys.executable, "-c", SCRIPT, str(fd)]
                started.append(
                    subprocess.Popen(command, env=environment, pass_fds=(fd,), stdout=log, stderr=log)
                )
        for url in urls:
            eventually(lambda url=url: is_up(url), seconds=30)
        yield urls
    finally:
        for process in started:
            process.kill()
        for process in started:
            process.wait()


def is_up(url: str) -> bool:
    try:
        return httpx.get(f"{url}/healthz", timeout=5).json()["status"] == "ok"
    except httpx.HTTPError:
        return False


async def keep_busy(urls: list[str], key: str, call: Call, *, each: int, going: Callable[[], bool]) -> None:
    """So many clients at each URL make calls one after another while it is going."""

    async def work(url: str) -> None:
        headers = {"Authorization": f"Bearer {key}"}
        async with httpx.AsyncClient(base_url=url, headers=headers, timeout=30) as client:
            while going():
                await call(client)

    await asyncio.gather(*(work(url) for url in urls for _ in range(each)))


def for_seconds(seconds: float) -> Callable[[], bool]:
    """True for so long from now."""
    until = time.monotonic() + seconds
    return lambda: time.monotonic() < until
