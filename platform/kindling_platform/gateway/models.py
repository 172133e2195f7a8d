"""`GET /v1/models` and `GET /v1/models/{name}`."""

from datetime import UTC, datetime
from typing import Any

import orjson

from kindling_platform.gateway.auth import Caller
from kindling_platform.gateway.catalog import Catalog, Model
from kindling_platform.gateway.names import parse_model_name
from kindling_platform.gateway.request import Request
from kindling_platform.gateway.routing import Router

# Anthropic's clients send it with every request.
ANTHROPIC = b"anthropic-version"


async def models_list(request: Request, caller: Caller, catalog: Catalog) -> None:
    """Answer with every model that the caller can name, and under every name that their organisation has given it."""
    models = await catalog.visible(caller)
    if ANTHROPIC in request.headers:
        answer = anthropic_list([anthropic_object(model) for model in models])
    else:
        answer = {"object": "list", "data": [model_object(model) for model in models]}
    await request.reply(200, orjson.dumps(answer))


async def model_get(request: Request, caller: Caller, catalog: Catalog, router: Router, text: str) -> None:
    """Answer with one model, by any form of its name; with a deployment in it only if that is one of the model's."""
    name = parse_model_name(text)
    model = await catalog.find(caller, name, text)
    if name is not None and name.deployment:
        await router.check_pin(caller, model, name, text)
    shape = anthropic_object if ANTHROPIC in request.headers else model_object
    await request.reply(200, orjson.dumps(shape(model)))


def model_object(model: Model) -> dict[str, Any]:
    """OpenAI's model object with what a caller here wants to know besides; money as text, in pico-dollars."""
    price = model.price
    return {
        "id": model.alias or model.ref,
        "object": "model",
        "created": model.created_s,
        "owned_by": model.org_slug,
        "kind": model.kind,
        "base_model": model.base_ref if model.kind == "adapter" else None,
        "alias_of": model.ref if model.alias else None,
        "context_length": model.context_length,
        "price_per_token_picousd": {
            "input": str(price.input),
            "cached_input": str(price.cached_input),
            "output": str(price.output),
            # Without a price of its own, reasoning costs what output does.
            "reasoning": None if price.reasoning is None else str(price.reasoning),
        }
        if price
        else None,
    }


def anthropic_object(model: Model) -> dict[str, Any]:
    """A model as Anthropic's clients read it."""
    return {
        "type": "model",
        "id": model.alias or model.ref,
        "display_name": model.alias or model.ref,
        "created_at": datetime.fromtimestamp(model.created_s, UTC).isoformat(),
        "max_input_tokens": model.context_length,
        "lifecycle": "active",
    }


def anthropic_list(data: list[dict[str, Any]]) -> dict[str, Any]:
    """All models as one page."""
    ends = (
        {"first_id": data[0]["id"], "last_id": data[-1]["id"]}
        if data
        else {"first_id": None, "last_id": None}
    )
    return {"data": data, "has_more": False, **ends}
