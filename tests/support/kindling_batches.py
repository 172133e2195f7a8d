"""Batches for tests: their files, and what came of them by custom id."""

import json
from typing import Any

import openai
from openai.types import Batch

from kindling_gateway import chat, eventually

OVER = ("completed", "failed", "expired", "cancelled")
CHAT = "/v1/chat/completions"


def request(
    number: int | str, *, url: str = CHAT, body: dict[str, Any] | None = None, **fields: Any
) -> dict[str, Any]:
    """One line of a batch."""
    line = {"custom_id": f"r{number}", "method": "POST", "url": url, "body": chat() if body is None else body}
    return line | fields


def jsonl(lines: list[Any]) -> bytes:
    """Lines as a file; bytes stay what they are."""
    return (
        b"\n".join(line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines) + b"\n"
    )


def begin(client: openai.OpenAI, lines: list[Any], *, endpoint: str = CHAT, **fields: Any) -> Batch:
    """A batch of these lines."""
    file = client.files.create(file=("in.jsonl", jsonl(lines)), purpose="batch")
    return client.batches.create(
        input_file_id=file.id,
        endpoint=endpoint,
        completion_window="24h",
        **fields,  # type: ignore[arg-type]
    )


def ended(client: openai.OpenAI, batch: Batch, *, seconds: float = 60) -> Batch:
    """The batch once it is over."""

    def look() -> Batch | None:
        read = client.batches.retrieve(batch.id)
        return read if read.status in OVER else None

    return eventually(look, seconds=seconds)


def lines_of(client: openai.OpenAI, file_id: str | None) -> list[dict[str, Any]]:
    """The lines of a file that a batch has made; none where it has made none."""
    if file_id is None:
        return []
    return [json.loads(line) for line in client.files.content(file_id).text.splitlines()]
