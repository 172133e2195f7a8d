"""Streams whose clients leave at random points."""

import asyncio
import random

import aiohttp

from kindling_platform.embedded.bench_reliability.target import Target

AT_ONCE = 40
MOST_TOKENS = 60
SEED = 11


def cuts_run(target: Target, *, streams: int) -> list[str]:
    """The ids of so many streams, most of which their clients did not read to the end."""
    return asyncio.run(_cuts(target, streams))


async def _cuts(target: Target, streams: int) -> list[str]:
    dice, gate = random.Random(SEED), asyncio.Semaphore(AT_ONCE)  # noqa: S311
    # A client that leaves hangs up, so no connection is used twice.
    connector = aiohttp.TCPConnector(limit=0, force_close=True)
    headers = {"Authorization": f"Bearer {target.key}"}
    async with aiohttp.ClientSession(headers=headers, connector=connector) as client:

        async def one(cut_after: int) -> str:
            async with gate:
                return await _stream(client, target, cut_after)

        found = await asyncio.gather(*(one(dice.randint(0, MOST_TOKENS)) for _ in range(streams)))
    return [request_id for request_id in found if request_id]


async def _stream(client: aiohttp.ClientSession, target: Target, cut_after: int) -> str:
    body = target.chat_body(max_tokens=MOST_TOKENS, stream=True)
    reply = await client.post(f"{target.url}/v1/chat/completions", json=body)
    try:
        events = 0
        async for line in reply.content:
            events += line.startswith(b"data: ")
            if events > cut_after:
                break
    finally:
        reply.close()
    return reply.headers.get("x-request-id", "") if reply.status == 200 else ""
