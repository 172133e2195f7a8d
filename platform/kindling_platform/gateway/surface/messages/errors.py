"""Errors in Anthropic's shape."""

from typing import Any

import orjson

from kindling_platform.gateway.errors import TYPE_BY_STATUS
from kindling_platform.gateway.limits.deadline import DEADLINE_EXCEEDED
from kindling_platform.gateway.surface.form import error_of

TYPES = {
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    408: "timeout_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
}
# What Anthropic's own clients read before they send the same without it; a conversation then goes whole every time.
DETAILS_BY_PARAM = {"thread": {"error_code": "thread_unsupported_request", "unsupported": ["thread"]}}
STATUS_BY_TYPE = {kind: status for status, kind in TYPE_BY_STATUS.items()} | {"invalid_request_error": 400}
STATUS_BY_CODE = {
    DEADLINE_EXCEEDED: 504,
    **dict.fromkeys(("overloaded", "no_replica", "engine_unavailable", "server_shutdown"), 503),
    **dict.fromkeys(("database_unavailable", "limits_unavailable", "spool_full"), 503),
}


def error_object(status: int, message: str, request_id: str) -> dict[str, Any]:
    """Anthropic's error object with the request's id; the type follows from the status."""
    kind = TYPES.get(status, "invalid_request_error" if status < 500 else "api_error")
    return {"type": "error", "error": {"type": kind, "message": message}, "request_id": request_id}


def status_of(error: dict[str, Any]) -> int:
    """The status that an error inside a stream would have had in front of it."""
    known = STATUS_BY_CODE.get(str(error.get("code")))
    return known or STATUS_BY_TYPE.get(str(error.get("type")), 500)


def error_body(status: int, body: bytes, request_id: str) -> bytes:
    """An OpenAI-shaped error body in Anthropic's shape, which has no place for a field's name but the sentence."""
    error = error_of(body)
    message, param = str(error.get("message") or "The request failed."), error.get("param")
    if param and param not in message:
        message = f"{param}: {message}"
    answer = error_object(status, message, request_id)
    if status == 400 and (details := DETAILS_BY_PARAM.get(str(param))):
        answer["error"]["details"] = details
    return orjson.dumps(answer)
