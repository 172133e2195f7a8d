"""The engine's HTTP application: routes, one form of errors, a request id on everything."""

import logging
from collections.abc import Awaitable, Callable

import msgspec
from aiohttp import web

from kindling_engine.protocol import headers as names
from kindling_engine.server import control, embeddings, inference, tokens
from kindling_engine.server.errors import ApiError, place_of
from kindling_engine.server.front import Front
from kindling_engine.server.keys import FRONT
from kindling_engine.server.template_process import template_process

logger = logging.getLogger(__name__)

MAX_BODY_BYTES = 8 * 1024 * 1024
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def create_app(front: Front) -> web.Application:
    """The application over one engine."""
    app = web.Application(client_max_size=MAX_BODY_BYTES, middlewares=[_answer_errors])
    app[FRONT] = front
    app.on_response_prepare.append(_add_request_id)
    app.on_startup.append(_warm_templates)
    app.add_routes(
        [
            web.post("/v1/chat/completions", inference.post_chat),
            web.post("/v1/chat/tokens", inference.post_chat_tokens),
            web.post("/v1/completions", inference.post_completion),
            web.post("/v1/tokenize", tokens.post_tokenize),
            web.post("/v1/detokenize", tokens.post_detokenize),
            web.post("/v1/embeddings", embeddings.post_embeddings),
            web.post("/requests/{id}/grant", control.post_grant),
            web.get("/requests/{id}/grant", control.get_grant),
            web.post("/requests/{id}/stop", control.post_stop),
            web.get("/usage", control.get_usage),
            web.post("/lora/prefetch", control.post_lora_prefetch),
            web.post("/lora/check", control.post_lora_check),
            web.post("/lora/pin", control.post_lora_pin),
            web.post("/lora/unload", control.post_lora_unload),
            web.get("/lora", control.get_lora),
            web.get("/healthz", control.get_health),
            web.get("/readyz", control.get_health),
            web.get("/livez", control.get_live),
            web.get("/metrics", control.get_metrics),
        ]
    )
    return app


@web.middleware
async def _answer_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except ApiError as error:
        return _refusal(error)
    except web.HTTPRequestEntityTooLarge:
        return _refusal(
            ApiError(413, "request_too_large", f"The body may have at most {MAX_BODY_BYTES:,} bytes.")
        )
    except web.HTTPException as error:
        return _refusal(ApiError(error.status, "not_found" if error.status == 404 else "invalid_request",
                                 f"{error.reason}."))  # fmt: skip
    except ConnectionError:
        raise
    except Exception as error:
        # No text of the error: it may quote a prompt.
        logger.error("a handler failed: %s at %s", type(error).__name__, place_of(error))
        return _refusal(ApiError(500, "internal_error", "The engine failed to handle this request."))


def _refusal(error: ApiError) -> web.Response:
    response = web.Response(
        body=msgspec.json.encode(error.body()), status=error.status, content_type="application/json"
    )
    if error.retry_after_s is not None:
        response.headers["retry-after"] = str(error.retry_after_s)
    return response


async def _warm_templates(app: web.Application) -> None:
    if app[FRONT].text.templates:
        template_process().warm()


async def _add_request_id(request: web.Request, response: web.StreamResponse) -> None:
    request_id = request.headers.get(names.REQUEST, "")
    if request_id and request_id.isascii() and request_id.isprintable():
        response.headers["x-request-id"] = request_id[: names.MAX_ID_CHARS]
