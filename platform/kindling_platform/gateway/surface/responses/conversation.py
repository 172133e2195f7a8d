"""Items as the messages of a chat: an answer's reasoning, text and calls are one message there."""

from collections.abc import Sequence
from typing import Any

from kindling_platform.gateway.surface.responses.items import Item


def messages_of(items: Sequence[Item]) -> list[dict[str, Any]]:
    """The messages of a conversation, in order."""
    messages: list[dict[str, Any]] = []
    answer: dict[str, Any] | None = None
    for item in items:
        kind = item["type"]
        if kind == "function_call_output":
            answer = None
            messages.append({"role": "tool", "tool_call_id": item["call_id"], "content": item["output"]})
        elif kind == "message" and item["role"] != "assistant":
            answer = None
            messages.append({"role": item["role"], "content": _text(item)})
        else:
            if answer is None or not _fits(answer, kind):
                answer = {"role": "assistant", "content": ""}
                messages.append(answer)
            _add(answer, item)
    return [message for message in messages if not _is_empty(message)]


def _fits(answer: dict[str, Any], kind: str) -> bool:
    """Whether an item goes on with this answer: its parts come as reasoning, text, calls."""
    if kind == "function_call":
        return True
    return not (answer.get("tool_calls") or answer["content"])


def _add(answer: dict[str, Any], item: Item) -> None:
    if item["type"] == "reasoning":
        text = "".join(part["text"] for part in item.get("content") or [])
        if text:
            answer["reasoning_content"] = answer.get("reasoning_content", "") + text
    elif item["type"] == "function_call":
        function = {"name": item["name"], "arguments": item["arguments"]}
        call = {"id": item["call_id"], "type": "function", "function": function}
        answer.setdefault("tool_calls", []).append(call)
    else:
        answer["content"] = _text(item)


def _text(item: Item) -> str:
    return "".join(part.get("text", "") for part in item["content"])


def _is_empty(message: dict[str, Any]) -> bool:
    """An answer of which only reasoning is left, or nothing, says nothing to a model."""
    return message["role"] == "assistant" and not (message["content"] or message.get("tool_calls"))
