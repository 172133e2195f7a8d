"""How exact a limit is that several gateways share, while they are asked for much more than it allows."""

from dataclasses import dataclass

import aiohttp

from kindling_billing.limits import burst_of
from kindling_platform.embedded.bench_reliability.crowd import Heard, ask, for_seconds, keep_busy
from kindling_platform.embedded.bench_reliability.customers import Customer
from kindling_platform.embedded.bench_reliability.target import Target

PER_MINUTE = 900
WINDOW_S = 60.0
CLIENTS_EACH = 2


@dataclass(frozen=True, slots=True)
class Limited:
    """The share of what the limit allowed that was admitted, how often a minute saw more, and who was refused."""

    admitted: float
    minutes_above: int
    refused: list[str]


async def limiter_run(target: Target, customer: Customer, urls: list[str], *, seconds: float) -> Limited:
    """Call through all gateways with a key of 900 requests a minute for so long."""
    made = target.api("POST", "/api/v1/keys", {"name": "limited", "scopes": ["inference"]}, key=customer.key)
    limit = {"requests_per_minute": PER_MINUTE}
    target.api("PATCH", f"/api/v1/keys/{made['id']}/limits", limit, key=customer.key)
    heard: list[Heard] = []

    async def models_list(client: aiohttp.ClientSession, url: str) -> None:
        """The cheapest call that counts as a request."""
        heard.append(await ask(client, f"{url}/v1/models"))

    await keep_busy(urls, made["key"], models_list, each=CLIENTS_EACH, going=for_seconds(seconds))
    admitted = sorted((one for one in heard if one.status == 200), key=lambda one: one.began)
    return Limited(
        admitted=round(len(admitted) / _allowed(admitted), 4),
        minutes_above=_minutes_above(admitted),
        refused=[one.request_id for one in heard if one.status == 429],
    )


def _allowed(admitted: list[Heard]) -> float:
    """What the limit and its burst let through between the first and the last that passed."""
    seconds = max(one.ended for one in admitted) - admitted[0].began
    return burst_of(0, PER_MINUTE) + PER_MINUTE * seconds / 60 + 1


def _minutes_above(admitted: list[Heard]) -> int:
    above = 0
    for first in admitted:
        # Admitted between the begin and the end of a call: those that lie inside the minute for certain.
        inside = sum(first.ended <= one.began and one.ended < first.ended + WINDOW_S for one in admitted)
        above += inside > PER_MINUTE + burst_of(0, PER_MINUTE)
    return above
