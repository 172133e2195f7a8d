"""The text that goes with a request from admission to the bill: who asks, for what, at which price."""

import json
from functools import lru_cache

from kindling_platform.gateway.auth import Caller
from kindling_platform.gateway.catalog import Model

NAMES = ("org", "key", "model", "name", "adapter", "deployment", "price")


def context_text(caller: Caller, model: Model, *, deployment_id: str = "") -> str:
    """The ids that were bound when the request was admitted, as JSON; `usage.context` reads it."""
    bound = (
        *(caller.org_id, caller.key_id, model.model_id, model.ref, model.adapter_id),
        *(deployment_id, model.price_version_id),
    )
    return _text(bound, caller.batch)


@lru_cache(maxsize=4096)
def _text(bound: tuple[str, ...], batch: bool) -> str:
    named: dict[str, str | bool] = dict(zip(NAMES, bound, strict=True))
    return json.dumps(named | {"batch": True} if batch else named, separators=(",", ":"))
