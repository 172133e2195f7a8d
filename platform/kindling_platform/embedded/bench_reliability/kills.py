"""Streams whose gateway or engine is killed under them, again and again, and what their clients saw."""

import asyncio
import json
import random
import time
from dataclasses import dataclass, field

import aiohttp

from kindling_platform.embedded.bench_reliability.payments import topup_begin, topup_pay
from kindling_platform.embedded.bench_reliability.target import Target

STREAMS = 50
VICTIMS = ("web", "engine")
QUIET_S = 0.1
BETWEEN_S = (0.3, 2.0)
SEED = 7


@dataclass(frozen=True, slots=True)
class Seen:
    """One answer from outside; `complete` means that its client has read the end of it, with these tokens."""

    request_id: str
    complete: bool
    tokens: int = 0
    status: int = 200


@dataclass(slots=True)
class Killed:
    """What clients saw, and how long it took from an engine's death under them to the next answer."""

    seen: list[Seen] = field(default_factory=list)
    engine_restarts_s: list[float] = field(default_factory=list)


async def kills_run(target: Target, *, loops: int) -> Killed:
    """Kill each of the two in turns while 50 streams run and a top-up is paid, wait until all is well, begin again."""
    dice = random.Random(SEED)  # noqa: S311
    killed = Killed()
    connector = aiohttp.TCPConnector(limit=0, force_close=True)
    headers = {"Authorization": f"Bearer {target.key}"}
    async with aiohttp.ClientSession(headers=headers, connector=connector) as client:
        for loop in range(loops):
            page = await asyncio.to_thread(topup_begin, target)
            streams = [
                asyncio.create_task(_stream(client, target, max_tokens=dice.randint(4, 160)))
                for _ in range(STREAMS)
            ]
            await asyncio.sleep(dice.uniform(*BETWEEN_S))
            await asyncio.to_thread(topup_pay, target, page)
            victim, began = VICTIMS[loop % len(VICTIMS)], time.monotonic()
            await asyncio.to_thread(target.kill, victim)
            answering = asyncio.create_task(asyncio.to_thread(_answer_wait, target))
            killed.seen += [one for one in await asyncio.gather(*streams) if one.request_id]
            answered_at = await answering
            if victim == "engine":
                killed.engine_restarts_s.append(answered_at - began)
            await asyncio.to_thread(_quiet_wait, target)
    return killed


def _answer_wait(target: Target) -> float:
    """When the next answer was there, by a clock that never goes back."""
    target.wait(lambda: target.chat().status == 200, "An answer after a kill")
    return time.monotonic()


def _quiet_wait(target: Target) -> None:
    target.wait(
        lambda: (url := target.replica().get("url")) and target.engine_active(url) == 0,
        "An engine that runs nothing",
    )


async def _stream(client: aiohttp.ClientSession, target: Target, *, max_tokens: int) -> Seen:
    request_id, tokens = "", 0
    body = target.chat_body(max_tokens=max_tokens, stream=True)
    try:
        async with client.post(f"{target.url}/v1/chat/completions", json=body) as reply:
            if reply.status != 200:
                return Seen(reply.headers.get("x-request-id", ""), complete=False, status=reply.status)
            request_id = reply.headers["x-request-id"]
            async for line in reply.content:
                if line.startswith(b"data: [DONE]"):
                    return Seen(request_id, True, tokens)
                if line.startswith(b"data: {") and (usage := json.loads(line[6:]).get("usage")):
                    tokens = usage["completion_tokens"]
    except (aiohttp.ClientError, OSError, TimeoutError):
        pass
    return Seen(request_id, complete=False)
