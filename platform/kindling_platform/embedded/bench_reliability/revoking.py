"""A key that is revoked while several gateways are busy with it."""

import asyncio
import time

import aiohttp

from kindling_platform.embedded.bench_reliability.crowd import ask, keep_busy
from kindling_platform.embedded.bench_reliability.customers import Customer
from kindling_platform.embedded.bench_reliability.target import Target

CLIENTS_EACH = 4
BEFORE_S, AFTER_S = 1.0, 1.5
ALLOWED_S = 1.0


async def accepted_late(target: Target, customer: Customer, urls: list[str]) -> int:
    """Calls that were accepted although they were made more than a second after the revocation."""
    made = target.api("POST", "/api/v1/keys", {"name": "short", "scopes": ["inference"]}, key=customer.key)
    accepted: list[float] = []
    revoked_at = 0.0

    async def models_list(client: aiohttp.ClientSession, url: str) -> None:
        one = await ask(client, f"{url}/v1/models")
        if one.status == 200:
            accepted.append(one.began)

    def going() -> bool:
        return not revoked_at or time.monotonic() < revoked_at + AFTER_S

    async def revoke() -> None:
        nonlocal revoked_at
        await asyncio.sleep(BEFORE_S)
        await asyncio.to_thread(target.api, "DELETE", f"/api/v1/keys/{made['id']}", key=customer.key)
        revoked_at = time.monotonic()

    await asyncio.gather(keep_busy(urls, made["key"], models_list, each=CLIENTS_EACH, going=going), revoke())
    return sum(began > revoked_at + ALLOWED_S for began in accepted)
