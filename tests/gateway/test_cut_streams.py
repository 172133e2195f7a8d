"""Streams that are cut at random points: every token that was made is billed, once, and no other."""

import asyncio
import random

import httpx
import pytest

from kindling_gateway import GatewayServer, chat, eventually
from kindling_spools import billed, shipped

AT_ONCE = 40
MOST_TOKENS = 60


async def stream(http: httpx.AsyncClient, cut_after: int) -> str:
    """One stream that its client leaves after so many parts, or reads to its end; gives its id."""
    async with http.stream(
        "POST", "/v1/chat/completions", json=chat(stream=True, max_tokens=MOST_TOKENS)
    ) as reply:
        assert reply.status_code == 200
        parts = 0
        async for _ in reply.aiter_raw():
            parts += 1
            if parts > cut_after:
                break
        return str(reply.headers["x-request-id"])


async def streams(server: GatewayServer, key: str, count: int) -> list[str]:
    dice, gate = random.Random(count), asyncio.Semaphore(AT_ONCE)
    async with server.async_client(key, limits=httpx.Limits(max_connections=AT_ONCE)) as http:

        async def one() -> str:
            async with gate:
                return await stream(http, dice.randint(0, MOST_TOKENS))

        return await asyncio.gather(*(one() for _ in range(count)))


@pytest.mark.parametrize("count", [120, pytest.param(2000, marks=pytest.mark.long)])
def test_what_is_billed_is_what_the_engine_made(server: GatewayServer, scene, count: int):
    scene.engine.behaviour.tokens, scene.engine.behaviour.delay_s = MOST_TOKENS, 0.001
    customer = scene.world.org("cutter", usd=100)
    ids = asyncio.run(streams(server, scene.world.key(customer), count))
    eventually(lambda: len(scene.engine.records) == count and not scene.engine.active, seconds=60)
    made = {record["request_id"]: record["completion_tokens"] for record in scene.engine.records}
    assert set(made) == set(ids)
    rows = eventually(lambda: found if set(ids) <= set(found := shipped(scene.world)) else None, seconds=60)
    own = {request_id: rows[request_id] for request_id in ids}
    assert {row.verdict for row in own.values()} == {"closed", "cut"}
    assert billed(own, scene.engine.records) == made
    # The gateway's own count, where it has one, is the engine's.
    assert all(row.tokens[1] == made[one] for one, row in own.items() if row.verdict == "closed")
