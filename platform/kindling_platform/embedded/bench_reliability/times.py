"""Three times: until a revoked key is refused, until an abandoned answer ends, until a killed engine answers again."""

import asyncio
import time
import uuid

import aiohttp

from kindling_platform.embedded.bench_reliability.target import Target
from kindling_platform.embedded.errors import EmbeddedError

LONG_ANSWER = 2000
LOOK_S = 0.002


def revoke_s(target: Target) -> float:
    """From the answer to the revocation to the first refusal, asking all the time."""
    made = target.api(
        "POST", "/api/v1/keys", {"name": f"bench-{uuid.uuid4().hex[:8]}", "scopes": ["inference"]}
    )
    if (reply := target.chat(key=made["key"])).status != 200:
        raise EmbeddedError("bench_failed", f"A new key is refused with {reply.status}.")
    target.api("DELETE", f"/api/v1/keys/{made['id']}")
    began = time.monotonic()
    target.wait(
        lambda: target.chat(key=made["key"]).status == 401, "The refusal of a revoked key", seconds=10
    )
    return time.monotonic() - began


async def disconnect_s(target: Target) -> float:
    """From a client's hang-up in the middle of its stream to an engine that runs nothing any more."""
    engine = target.replica()["url"]
    async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {target.key}"}) as client:
        body = target.chat_body(max_tokens=LONG_ANSWER, stream=True)
        reply = await client.post(f"{target.url}/v1/chat/completions", json=body)
        for _ in range(3):
            await reply.content.readline()
        began = time.monotonic()
        reply.close()
        while True:
            async with client.get(f"{engine}/healthz") as health:
                if (await health.json())["active"] == 0:
                    return time.monotonic() - began
            if time.monotonic() - began > 10:
                raise EmbeddedError("bench_failed", "An abandoned answer went on for 10 s.")
            await asyncio.sleep(LOOK_S)


def engine_restart_s(target: Target) -> float:
    """From an engine's death to the first answer."""
    target.kill("engine")
    began = time.monotonic()
    target.wait(lambda: target.chat().status == 200, "An answer after the engine's death")
    return time.monotonic() - began
