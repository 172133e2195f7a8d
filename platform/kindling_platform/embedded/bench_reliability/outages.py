"""What customers notice while the cache or the database is killed, emptied, stopped or slow."""

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import redis

from kindling_platform.embedded.bench_reliability.crowd import Heard, ask, for_seconds, keep_busy
from kindling_platform.embedded.bench_reliability.gateways import gateways_running, is_ready
from kindling_platform.embedded.bench_reliability.proxy import FaultProxy
from kindling_platform.embedded.bench_reliability.target import Target

CLIENTS = 2
# For so long customers are known before the outage begins.
KNOWN_S = 1.0
PAUSE_S = 0.05
SLOW_S = 0.2


@dataclass(frozen=True, slots=True)
class Outage:
    """Answers, polite refusals (503 with `retry-after`), anything else; the slowest; until all was well again."""

    answered: int
    refused: int
    failed: int
    slowest_ms: float
    back_s: float


@dataclass(frozen=True, slots=True)
class Lengths:
    """How long each outage lasts, in seconds."""

    short_s: float
    valkey_s: float
    postgres_s: float


FULL, QUICK = Lengths(5.0, 30.0, 60.0), Lengths(1.0, 2.0, 2.0)


def outages_run(target: Target, lengths: Lengths) -> dict[str, Outage]:
    """One outage after the other under load; `quiet` is the same load without any."""
    short_s, valkey, postgres = lengths.short_s, Stopped(target, "valkey"), Stopped(target, "postgres")
    return {
        "quiet": _outage(target, short_s, nothing),
        "valkey_killed": _outage(target, short_s, lambda: target.kill("valkey")),
        "valkey_emptied": _outage(target, short_s, lambda: _empty(target)),
        "valkey_stopped": _outage(target, lengths.valkey_s, valkey.begin, valkey.end),
        "valkey_slow": _slow(target, short_s),
        "postgres_restarted": _outage(target, short_s, lambda: target.kill("postgres", signal.SIGINT)),
        "postgres_stopped": _outage(target, lengths.postgres_s, postgres.begin, postgres.end),
    }


class Stopped:
    """A server with all its processes that is there and does nothing, as on a machine that has frozen."""

    def __init__(self, target: Target, name: str) -> None:
        self._target = target
        self._name = name
        self._pids: list[int] = []

    def begin(self) -> None:
        """Stop the first process before its children, so that it makes no more of them."""
        first = self._target.pid(self._name)
        os.kill(first, signal.SIGSTOP)
        self._pids = [first, *_children(first)]
        self._signal(signal.SIGSTOP)

    def end(self) -> None:
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        for pid in self._pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)


def nothing() -> None:
    """No outage, or one that ends by itself."""


def _outage(
    target: Target,
    seconds: float,
    begin: Callable[[], None],
    end: Callable[[], None] = nothing,
    *,
    url: str = "",
) -> Outage:
    url, heard, began_at = url or target.url, list[Heard](), 0.0

    async def chat(client: aiohttp.ClientSession, url: str) -> None:
        heard.append(await ask(client, f"{url}/v1/chat/completions", target.chat_body(max_tokens=1)))
        if heard[-1].status != 200:
            await asyncio.sleep(PAUSE_S)

    async def run() -> None:
        nonlocal began_at
        load = asyncio.create_task(
            keep_busy([url], target.key, chat, each=CLIENTS, going=for_seconds(KNOWN_S + seconds))
        )
        await asyncio.sleep(KNOWN_S)
        began_at = time.monotonic()
        await asyncio.to_thread(begin)
        try:
            await load
        finally:
            end()

    asyncio.run(run())
    ended_at = time.monotonic()
    target.wait(lambda: is_ready(url) and target.chat().status == 200, "An answer after an outage")
    during = [one for one in heard if one.ended > began_at]
    answered = [one for one in during if one.status == 200]
    refused = [one for one in during if one.status == 503 and "retry-after" in one.headers]
    return Outage(
        answered=len(answered),
        refused=len(refused),
        failed=len(during) - len(answered) - len(refused),
        slowest_ms=round(1000 * max((one.ended - one.began for one in during), default=0.0), 1),
        back_s=round(time.monotonic() - ended_at, 2),
    )


def _slow(target: Target, seconds: float) -> Outage:
    """A gateway whose cache answers 0.2 s late."""
    proxy, redis_url = FaultProxy.before(target.redis_url)

    def late(delay_s: float) -> None:
        proxy.delay_s = delay_s

    try:
        with gateways_running(target, 1, KINDLING_REDIS_URL=redis_url) as (url,):
            return _outage(target, seconds, lambda: late(SLOW_S), lambda: late(0.0), url=url)
    finally:
        proxy.stop()


def _empty(target: Target) -> None:
    client: redis.Redis = redis.Redis.from_url(target.redis_url)
    try:
        client.flushall()
        client.script_flush()
    finally:
        client.close()


def _children(pid: int) -> list[int]:
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        found += [int(child) for child in (task / "children").read_text().split()]
    return found
