"""Webhooks: signed as Stripe signs them, repeated with growing pauses until they are taken."""

import asyncio
import hashlib
import hmac
import json
from typing import Any

import aiohttp

from kindling_billing.fake_stripe.answering import shown
from kindling_billing.fake_stripe.world import World

EVERY_S = 0.05
TIMEOUT_S = 10
# Stripe goes on for three days; so does this, with the last pause repeated.
PAUSES_S = (0.5, 1, 2, 5, 10, 30, 60, 300, 3600)
LIFE_S = 3 * 24 * 3600
MOST_AT_ONCE = 16


def signature(payload: str, *, secret: str, at: int) -> str:
    """The value of the header `Stripe-Signature`: HMAC-SHA256 over the time and the payload."""
    signed = hmac.new(secret.encode(), f"{at}.{payload}".encode(), hashlib.sha256).hexdigest()
    return f"t={at},v1={signed}"


def payload_of(world: World, event_id: str) -> str:
    """An event as it is sent."""
    return json.dumps(shown(world.get("event", event_id)))


class Deliveries:
    """The loop that sends what is due."""

    def __init__(self, world: World, *, secret: str) -> None:
        self._world = world
        self._secret = secret

    async def run(self) -> None:
        """Send until cancelled."""
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=TIMEOUT_S)) as session:
            while True:
                if not (self._world.faults.hold or self._world.faults.outage):
                    due = self._world.store.delivery_list(due=self._world.now())[:MOST_AT_ONCE]
                    await asyncio.gather(*(self._send(session, *one) for one in due))
                await asyncio.sleep(EVERY_S)

    async def _send(self, session: aiohttp.ClientSession, number: int, event_id: str, attempts: int) -> None:
        # Several calls wait for the network here, but the store is only touched between waits.
        payload = payload_of(self._world, event_id)
        headers = {
            "Content-Type": "application/json",
            "Stripe-Signature": signature(payload, secret=self._secret, at=self._world.now()),
        }
        try:
            async with session.post(self._world.webhook_url, data=payload, headers=headers) as reply:
                taken = 200 <= reply.status < 300
        except (aiohttp.ClientError, TimeoutError):
            taken = False
        self._settle(number, event_id, attempts, taken=taken)

    def _settle(self, number: int, event_id: str, attempts: int, *, taken: bool) -> None:
        event: dict[str, Any] = self._world.get("event", event_id)
        if taken or self._world.now() > event["created"] + LIFE_S:
            self._world.store.delivery_end(number)
        else:
            pause = PAUSES_S[min(attempts, len(PAUSES_S) - 1)]
            self._world.store.delivery_retry(number, due=self._world.now() + pause)
