"""OpenAI's batch object, and the lines of its output."""

from datetime import datetime
from typing import Any

import orjson

from kindling_platform.common.ids import uuid7
from kindling_platform.gateway.surface.batches.store import Batch

WINDOW = "24h"


def batch_object(batch: Batch) -> dict[str, Any]:
    """A batch as its owner reads it; `waits_for` is the code of what keeps it from going on."""
    over = {f"{status}_at": _seconds(batch.ended_at) if batch.status == status else None
            for status in ("completed", "failed", "expired", "cancelled")}  # fmt: skip
    errors = None if batch.errors is None else {"object": "list", "data": batch.errors}
    return {
        "id": batch.id,
        "object": "batch",
        "endpoint": batch.endpoint,
        "model": batch.model_name or None,
        "errors": errors,
        "input_file_id": batch.input_file_id,
        "completion_window": WINDOW,
        "status": batch.status,
        "waits_for": batch.waits_for or None,
        "output_file_id": batch.output_file_id or None,
        "error_file_id": batch.error_file_id or None,
        "created_at": _seconds(batch.created_at),
        "in_progress_at": _seconds(batch.in_progress_at),
        "expires_at": _seconds(batch.expires_at),
        "finalizing_at": _seconds(batch.finalizing_at),
        "cancelling_at": _seconds(batch.cancelling_at),
        **over,
        "request_counts": {"total": batch.total, "completed": batch.completed, "failed": batch.failed},
        "usage": {
            "input_tokens": batch.prompt_tokens,
            "input_tokens_details": {"cached_tokens": batch.cached_tokens},
            "output_tokens": batch.completion_tokens,
            "output_tokens_details": {"reasoning_tokens": batch.reasoning_tokens},
            "total_tokens": batch.prompt_tokens + batch.completion_tokens,
        },
        "metadata": batch.metadata,
    }


def answer_line(custom_id: str, *, status: int, request_id: str, body: bytes) -> bytes:
    """A line of output for a request that was answered, or refused."""
    answer = {"status_code": status, "request_id": request_id, "body": orjson.Fragment(body)}
    return _line(custom_id, response=answer, error=None)


def error_line(custom_id: str, *, code: str, message: str) -> bytes:
    """A line of output for a request that was not made."""
    return _line(custom_id, response=None, error={"code": code, "message": message})


def _line(custom_id: str, **parts: Any) -> bytes:
    return orjson.dumps({"id": f"batch_req_{uuid7().hex}", "custom_id": custom_id, **parts})


def _seconds(moment: datetime | None) -> int | None:
    return None if moment is None else int(moment.timestamp())
