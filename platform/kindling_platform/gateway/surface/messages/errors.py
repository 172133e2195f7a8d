"""Errors in Anthropic's shape."""

from typing import Any

import orjson

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


def error_object(status: int, message: str, request_id: str) -> dict[str, Any]:
    """Anthropic's error object with the request's id; the type follows from the status."""
    kind = TYPES.get(status, "invalid_request_error" if status < 500 else "api_error")
    return {"type": "error", "error": {"type": kind, "message": message}, "request_id": request_id}


def error_body(status: int, body: bytes, request_id: str) -> bytes:
    """An OpenAI-shaped error body in Anthropic's shape; the sentence stays."""
    message = str(error_of(body).get("message") or "The request failed.")
    return orjson.dumps(error_object(status, message, request_id))
