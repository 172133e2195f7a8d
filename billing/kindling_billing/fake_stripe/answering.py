"""One request from its bytes to its answer: idempotency keys as Stripe's version 1 has them, and faults."""

import hashlib
import json
from dataclasses import dataclass
from typing import Any

from kindling_billing.fake_stripe.endpoints import Endpoint, endpoint_find
from kindling_billing.fake_stripe.errors import Refusal
from kindling_billing.fake_stripe.faults import Fault
from kindling_billing.fake_stripe.world import Body, World

KEY_LIFE_S = 24 * 3600
MOST_KEY_CHARS = 255


@dataclass(frozen=True, slots=True)
class Answer:
    """A status and a body; `lost` tells that the caller never hears of it."""

    status: int
    body: Body
    replayed: bool = False
    lost: bool = False


def answer(world: World, method: str, path: str, params: Body, key: str) -> Answer:
    """Carry a request out, or repeat what its key was answered with before.

    As at Stripe, whatever came of a request that began is kept under its key for a day: a declined charge and a failure
    of the server too. What was refused before it began (400, 404, 429) is not.
    """
    if world.faults.outage:
        return _failed(503, "The stand-in is out of order, as it was told to be.")
    try:
        endpoint, names = endpoint_find(method, path)
        if method != "POST":
            with world.store.transaction():
                return Answer(200, shown(endpoint.handle(world, params, **names)))
        return _changed(world, endpoint, names, params, key)
    except Refusal as refusal:
        return Answer(refusal.status, shown(refusal.body))


def shown(value: Any) -> Any:
    """A value without what is only ours."""
    if isinstance(value, dict):
        return {name: shown(item) for name, item in value.items() if not name.startswith("x_")}
    return [shown(item) for item in value] if isinstance(value, list) else value


def _changed(world: World, endpoint: Endpoint, names: dict[str, str], params: Body, key: str) -> Answer:
    fingerprint = hashlib.sha256(
        json.dumps([endpoint.path, names, params], sort_keys=True).encode()
    ).hexdigest()
    if len(key) > MOST_KEY_CHARS:
        raise Refusal(400, "invalid_request_error", "Idempotency keys have at most 255 characters.")
    kept = world.store.key_get(key, since=world.now() - KEY_LIFE_S) if key else None
    if kept and kept[0] != fingerprint:
        text = "Keys for idempotent requests can only be used with the same parameters they were first used with."
        raise Refusal(400, "idempotency_error", text)
    if kept:
        return Answer(kept[1], json.loads(kept[2]), replayed=True)
    fault = world.faults.draw()
    if fault == Fault.RATE_LIMITED:
        raise Refusal(
            429, "invalid_request_error", "Too many requests hit the API too quickly.", code="rate_limit"
        )
    with world.store.transaction():
        found = (
            _failed(500, "An unknown error occurred.")
            if fault == Fault.STORED_500_BEFORE
            else _carried_out(world, endpoint, names, params)
        )
        if fault == Fault.STORED_500_AFTER:
            found = _failed(500, "An unknown error occurred.")
        if key:
            world.store.key_put(key, fingerprint, found.status, json.dumps(found.body), created=world.now())
    return Answer(found.status, found.body, lost=fault == Fault.TIMEOUT_AFTER)


def _carried_out(world: World, endpoint: Endpoint, names: dict[str, str], params: Body) -> Answer:
    endpoint.check(params)
    try:
        return Answer(200, shown(endpoint.handle(world, params, **names)))
    except Refusal as refusal:
        if not refusal.keeps:
            raise
        return Answer(refusal.status, shown(refusal.body))


def _failed(status: int, message: str) -> Answer:
    return Answer(status, {"error": {"type": "api_error", "message": message}})
