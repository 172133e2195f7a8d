"""A wallet of one dollar and calls worth five, all at once: what was spent of it."""

import asyncio
import time
from dataclasses import dataclass

import aiohttp

from kindling_platform.embedded.bench_reliability.crowd import Heard, ask
from kindling_platform.embedded.bench_reliability.customers import Customer, customer_make, price_set
from kindling_platform.embedded.bench_reliability.target import Target
from kindling_platform.embedded.errors import EmbeddedError

TOKENS = 16
# Sixteen tokens cost a cent; the prompt is next to nothing.
INPUT, OUTPUT = 100_000, 10**10 // TOKENS
PAUSE_S = 0.3
MOST_S = 240.0
BUSY = (402, 503)


@dataclass(frozen=True, slots=True)
class Race:
    """Calls that were answered, and those that were refused for want of money."""

    answered: int
    refused: list[str]
    failed: int


def payer_make(target: Target) -> Customer:
    """A customer with a dollar, for whom an answer costs a cent; made before the gateways that shall know it."""
    customer = customer_make(target)
    price_set(target, customer, input_picousd=INPUT, output_picousd=OUTPUT)
    return customer


async def dollar_race(target: Target, payer: Customer, urls: list[str], *, calls: int, idle_s: float) -> Race:
    """Call at once through all gateways; whoever is refused tries again until nothing has ended for so long.

    Nothing that was held or set aside will come back then: a gateway looks each second.
    """
    heard: list[Heard] = []
    began_at = last_at = time.monotonic()

    async def call(client: aiohttp.ClientSession, number: int) -> None:
        nonlocal last_at
        body = target.chat_body(max_tokens=TOKENS, stream=number % 2 == 0)
        while True:
            one = await ask(client, f"{urls[number % len(urls)]}/v1/chat/completions", body)
            heard.append(one)
            if one.status not in BUSY:
                last_at = time.monotonic()
                return
            if one.status == 402 and one.began > last_at + idle_s:
                return
            if one.ended > began_at + MOST_S:
                raise EmbeddedError("bench_failed", f"A dollar was not spent within {MOST_S:.0f} s.")
            await asyncio.sleep(PAUSE_S)

    connector = aiohttp.TCPConnector(limit=0)
    headers = {"Authorization": f"Bearer {payer.key}"}
    async with aiohttp.ClientSession(headers=headers, connector=connector) as client:
        await asyncio.gather(*(call(client, number) for number in range(calls)))
    return Race(
        answered=sum(one.status == 200 for one in heard),
        refused=[one.request_id for one in heard if one.status == 402],
        failed=sum(one.status not in (200, *BUSY) for one in heard),
    )
