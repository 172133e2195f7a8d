"""`GET /v1/models` and `GET /v1/models/{name}`."""

from typing import Any

import orjson

from kindling_platform.gateway.auth import Caller
from kindling_platform.gateway.catalog import Catalog, Model
from kindling_platform.gateway.names import parse_model_name
from kindling_platform.gateway.request import Request


async def models_list(request: Request, caller: Caller, catalog: Catalog) -> None:
    """Answer with every model that the caller can name."""
    data = [model_object(model) for model in await catalog.visible(caller)]
    await request.reply(200, orjson.dumps({"object": "list", "data": data}))


async def model_get(request: Request, caller: Caller, catalog: Catalog, text: str) -> None:
    """Answer with one model, by any form of its name."""
    model = await catalog.find(caller, parse_model_name(text), text)
    await request.reply(200, orjson.dumps(model_object(model)))


def model_object(model: Model) -> dict[str, Any]:
    """OpenAI's model object with what a caller here wants to know besides; money as text, in pico-dollars."""
    price = model.price
    return {
        "id": model.ref,
        "object": "model",
        "created": model.created_s,
        "owned_by": model.org_slug,
        "kind": model.kind,
        "base_model": model.base_ref if model.kind == "adapter" else None,
        "context_length": model.context_length,
        "price_per_token_picousd": {
            "input": str(price.input),
            "cached_input": str(price.cached_input),
            "output": str(price.output),
        }
        if price
        else None,
    }
