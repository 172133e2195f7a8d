"""A chat's answer as an engine streams it: reasoning, text, two calls; and the events that came of it."""

import json
from typing import Any

ID = "0190b7d2-0000-7000-8000-000000000001"
USAGE = {"prompt_tokens": 20, "completion_tokens": 9, "prompt_tokens_details": {"cached_tokens": 16}}
CALL = {"id": "call_1", "type": "function", "function": {"name": "look", "arguments": '{"city":"Rome"}'}}


def chunk(delta: dict[str, Any], finish: str | None = None, **more: Any) -> dict[str, Any]:
    return {"model": "m", "choices": [{"index": 0, "delta": delta, "finish_reason": finish, **more}]}


def call_delta(index: int, **function: str) -> dict[str, Any]:
    start = {"id": f"call_{index}", "type": "function"} if "name" in function else {}
    return {"tool_calls": [{"index": index, **start, "function": function}]}


CHUNKS = [
    chunk({"role": "assistant"}),
    chunk({"reasoning_content": "Let me "}),
    chunk({"reasoning_content": "see."}),
    chunk({"content": "Hello "}),
    chunk({"content": "there ü"}),
    chunk(call_delta(0, name="look", arguments="")),
    chunk(call_delta(0, arguments='{"city":')),
    chunk(call_delta(0, arguments='"Rome"}')),
    chunk(call_delta(1, name="ask", arguments="{}")),
    chunk({}, "tool_calls"),
    {"model": "m", "choices": [], "usage": USAGE},
]


def stream_of(chunks: list[dict[str, Any]], *, done: bool = True) -> bytes:
    events = b"".join(b"data: " + json.dumps(one).encode() + b"\n\n" for one in chunks)
    return events + (b"data: [DONE]\n\n" if done else b"")


def events_of(data: bytes) -> list[dict[str, Any]]:
    found = []
    for block in data.decode().split("\n\n")[:-1]:
        name, said = block.split("\n")
        value = json.loads(said.removeprefix("data: "))
        assert name == f"event: {value['type']}"
        found.append(value)
    return found
