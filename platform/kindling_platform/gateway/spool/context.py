"""The text that goes with a request from admission to the bill: who asks, for what, at which price."""

import json

from kindling_platform.gateway.auth import Caller
from kindling_platform.gateway.catalog import Model


def context_text(caller: Caller, model: Model, *, deployment_id: str = "") -> str:
    """The ids that were bound when the request was admitted, as JSON; `usage.context` reads it."""
    context = {
        "org": caller.org_id,
        "key": caller.key_id,
        "model": model.model_id,
        "name": model.ref,
        "adapter": model.adapter_id,
        "deployment": deployment_id,
        "price": model.price_version_id,
    }
    return json.dumps(context, separators=(",", ":"))
