"""The object of a response and the items of its output."""

from typing import Any

Response = dict[str, Any]
INCOMPLETE = {"length": "max_output_tokens", "content_filter": "content_filter"}


def response_object(echo: dict[str, Any], *, hex_id: str, model: str, created_s: int) -> Response:
    """A response that has just begun, with what the body said."""
    return {
        "id": f"resp_{hex_id}",
        "object": "response",
        "created_at": created_s,
        "completed_at": None,
        "status": "in_progress",
        "background": False,
        "error": None,
        "incomplete_details": None,
        "model": model,
        "output": [],
        "service_tier": "default",
        "usage": None,
        **echo,
    }


def response_end(
    response: Response,
    output: list[dict[str, Any]],
    *,
    finish: str,
    usage: dict[str, Any],
    now_s: int,
    limited_by: str = "",
) -> Response:
    """The same response at its end: completed, or incomplete where its length or a filter cut it.

    `limited_by` says which bound other than its own length that was.
    """
    reason = INCOMPLETE.get(finish)
    limit = {"limited_by": limited_by} if limited_by else {}
    return response | {
        "status": "incomplete" if reason else "completed",
        "completed_at": None if reason else now_s,
        "incomplete_details": {"reason": reason, **limit} if reason else None,
        "output": output,
        "usage": usage_block(usage),
    }


def response_fail(response: Response, *, code: str, message: str) -> Response:
    """The same response at an end that no answer was made at."""
    return response | {"status": "failed", "error": {"code": code, "message": message}}


def reasoning_item(item_id: str, text: str, *, status: str = "completed") -> dict[str, Any]:
    """Reasoning in full; it is not summed up."""
    content = [{"type": "reasoning_text", "text": text}] if text else []
    return {
        "id": item_id,
        "type": "reasoning",
        "summary": [],
        "content": content,
        "encrypted_content": None,
        "status": status,
    }


def message_item(item_id: str, part: dict[str, Any] | None, *, status: str = "completed") -> dict[str, Any]:
    """An answer's text."""
    return {
        "id": item_id,
        "type": "message",
        "role": "assistant",
        "status": status,
        "content": [] if part is None else [part],
    }


def text_part(text: str, logprobs: list[dict[str, Any]]) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": logprobs}


def call_item(
    item_id: str, call_id: str, name: str, arguments: str, *, status: str = "completed"
) -> dict[str, Any]:
    """A call of a function."""
    return {
        "id": item_id,
        "type": "function_call",
        "status": status,
        "call_id": call_id,
        "name": name,
        "arguments": arguments,
    }


def usage_block(usage: dict[str, Any]) -> dict[str, Any]:
    """Chat's counts under the names of the Responses API."""
    prompt, completion = usage.get("prompt_tokens", 0), usage.get("completion_tokens", 0)
    return {
        "input_tokens": prompt,
        "input_tokens_details": {
            "cached_tokens": (usage.get("prompt_tokens_details") or {}).get("cached_tokens", 0),
            "cache_write_tokens": 0,
        },
        "output_tokens": completion,
        "output_tokens_details": {
            "reasoning_tokens": (usage.get("completion_tokens_details") or {}).get("reasoning_tokens", 0)
        },
        "total_tokens": prompt + completion,
    }
