"""What an engine without a model sends: events, errors, and the end of a connection."""

import json
import time
from collections.abc import Collection
from typing import Any, cast

from aiohttp import web

CONTEXT_LENGTH = 4096


def reason(finish: str) -> str:
    return "stop" if finish == "stop" else "length"


def event(body: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(body, separators=(",", ":")).encode() + b"\n\n"


def error_body(code: str) -> dict[str, Any]:
    return {"error": {"message": f"fake: {code}", "type": "api_error", "param": None, "code": code}}


def failure(status: int, code: str) -> web.Response:
    return web.json_response(error_body(code), status=status)


def refused(how: Any, body: dict[str, Any]) -> web.Response | None:
    """The refusal of every body, or of one with a field that this engine does not take; None where it is taken."""
    if how.fail_status:
        return failure(how.fail_status, how.fail_code)
    field = how.refused_field
    if not field or field not in body:
        return None
    error = {"message": f"No {field} here.", "type": "invalid_request_error", "param": field}
    return web.json_response({"error": error | {"code": "unsupported_field"}}, status=400)


def refuse_tenants(tenants: Collection[str]) -> Any:
    """A middleware that refuses every request of these; the collection may grow while it serves."""

    @web.middleware
    async def refuse(request: web.Request, handler: Any) -> web.StreamResponse:
        if request.headers.get("x-kindling-tenant") in tenants:
            return failure(400, "test_is_over")
        return cast(web.StreamResponse, await handler(request))

    return refuse


def usage_block(made: int, how: Any) -> dict[str, Any]:
    return {
        "prompt_tokens": how.prompt_tokens,
        "completion_tokens": made,
        "total_tokens": how.prompt_tokens + made,
        "prompt_tokens_details": {"cached_tokens": how.cached_tokens},
        "completion_tokens_details": {"reasoning_tokens": min(how.reasoning_tokens, made)},
    }


def message(text: str, thought: str) -> dict[str, Any]:
    told = {"reasoning_content": thought} if thought else {}
    return {"message": {"role": "assistant", "content": text, **told}}


def hang_up(request: web.Request) -> web.StreamResponse:
    """Drop the connection the way a killed process does."""
    if request.transport:
        request.transport.abort()
    return web.Response(status=500)


def limit_of(body: dict[str, Any]) -> int:
    return int(body.get("max_completion_tokens") or body.get("max_tokens") or CONTEXT_LENGTH)


def whole(body: dict[str, Any], request_id: str, first_token_ms: int | None) -> web.Response:
    """An answer that is not streamed, with how long ago its first token came."""
    now_ms = int(time.time() * 1000)
    written_ms = now_ms - (first_token_ms or now_ms)
    headers = {"x-request-id": request_id, "x-kindling-written-ms": str(written_ms)}
    return web.json_response(body, headers=headers)
