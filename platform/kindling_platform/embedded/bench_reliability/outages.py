"""What customers notice while the cache or the database is killed, emptied, stopped or slow."""

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import aiohttp
import redis

from kindling_platform.embedded.bench_reliability.crowd import Heard, ask, for_seconds, keep_busy
from kindling_platform.embedded.bench_reliability.gateways import Fleet, is_ready
from kindling_platform.embedded.bench_reliability.target import Target

CLIENTS = 2
# Between a client's calls: together they stay below the requests a minute that anybody has by default.
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
    """How long customers are known before an outage, and how long each lasts, in seconds."""

    known_s: float
    short_s: float
    valkey_s: float
    postgres_s: float


FULL, QUICK = Lengths(1.0, 5.0, 30.0, 60.0), Lengths(0.4, 0.7, 1.2, 1.5)


def outages_run(target: Target, fleet: Fleet, lengths: Lengths) -> dict[str, Outage]:
    """One outage after the other under load; `quiet` is the same load without any."""
    trial, slow = Trial(target, target.url, lengths), Trial(target, fleet.slow_url, lengths)
    valkey, postgres = Stopped(target, "valkey"), Stopped(target, "postgres")

    def late(delay_s: float) -> None:
        fleet.proxy.delay_s = delay_s

    return {
        "quiet": trial.run(nothing),
        "valkey_killed": trial.run(lambda: target.kill("valkey")),
        "valkey_emptied": trial.run(lambda: _empty(target)),
        "valkey_stopped": trial.run(valkey.begin, valkey.end, seconds=lengths.valkey_s),
        "valkey_slow": slow.run(lambda: late(SLOW_S), lambda: late(0.0)),
        "postgres_restarted": trial.run(lambda: target.kill("postgres", signal.SIGINT)),
        "postgres_stopped": trial.run(postgres.begin, postgres.end, seconds=lengths.postgres_s),
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


@dataclass(frozen=True, slots=True)
class Trial:
    """Customers at one gateway, who are there before an outage, during it and until it is over."""

    target: Target
    url: str
    lengths: Lengths

    def run(
        self, begin: Callable[[], None], end: Callable[[], None] = nothing, *, seconds: float = 0.0
    ) -> Outage:
        """One outage, short unless `seconds` says how long."""
        heard, seconds, known_s = list[Heard](), seconds or self.lengths.short_s, self.lengths.known_s
        began_at = 0.0
        self.target.wait(partial(is_ready, self.url), "A gateway before an outage")

        async def chat(client: aiohttp.ClientSession, url: str) -> None:
            heard.append(await ask(client, f"{url}/v1/chat/completions", self.target.chat_body(max_tokens=1)))
            await asyncio.sleep(PAUSE_S)

        async def work() -> None:
            nonlocal began_at
            going = for_seconds(known_s + seconds)
            load = asyncio.create_task(
                keep_busy([self.url], self.target.key, chat, each=CLIENTS, going=going)
            )
            await asyncio.sleep(known_s)
            began_at = time.monotonic()
            await asyncio.to_thread(begin)
            try:
                await load
            finally:
                end()

        asyncio.run(work())
        ended_at = time.monotonic()
        self.target.wait(self._is_well, "An answer after an outage")
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

    def _is_well(self) -> bool:
        return is_ready(self.url) and self.target.chat().status == 200


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
