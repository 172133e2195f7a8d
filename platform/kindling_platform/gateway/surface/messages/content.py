"""Conversations in Anthropic's blocks as messages of a chat completion."""

from typing import Any

import orjson

from kindling_platform.gateway.surface.fields import Fields, invalid_value, unsupported

ROLES = ("user", "assistant", "system")


def system_translate(value: Any, ignored: list[str]) -> list[dict[str, Any]]:
    """The system prompt, a string or blocks of text, as a message; none when there is none."""
    if value is None:
        return []
    text = value if isinstance(value, str) else "\n\n".join(_texts(value, "system", ignored))
    return [{"role": "system", "content": text}] if text else []


def messages_translate(value: Any, ignored: list[str]) -> tuple[list[dict[str, Any]], list[str]]:
    """Every turn as one message or several, and the place of each one's turn. Errors name the block by its place."""
    if not isinstance(value, list) or not value:
        raise invalid_value("messages", "messages has to be a list of at least one message.")
    messages: list[dict[str, Any]] = []
    places: list[str] = []
    for index, one in enumerate(value):
        turn = Fields(one, f"messages[{index}]", ignored)
        turn.need("role")
        role = turn.choice("role", *ROLES)
        content = turn.need("content")
        turn.end()
        path = f"messages[{index}].content"
        if isinstance(content, str):
            messages.append({"role": role, "content": content})
        elif role == "assistant":
            messages.append(_assistant(content, path, ignored))
        elif role == "system":
            messages.append({"role": role, "content": "\n\n".join(_texts(content, path, ignored))})
        else:
            messages += _user(content, path, ignored)
        places += [f"messages[{index}]"] * (len(messages) - len(places))
    if messages[-1]["role"] == "assistant":
        message = "The last message is the assistant's: answers cannot be begun by the caller."
        raise unsupported(places[-1], message)
    return messages, places


def _user(content: Any, path: str, ignored: list[str]) -> list[dict[str, Any]]:
    """Results of tools are messages of their own; text between them stays where it was."""
    messages: list[dict[str, Any]] = []
    texts: list[str] = []

    def flush() -> None:
        if texts:
            messages.append({"role": "user", "content": "".join(texts)})
            texts.clear()

    for block in _blocks(content, path, ignored):
        if block.take("type") == "tool_result":
            flush()
            messages.append(_result(block, ignored))
        else:
            texts.append(_text(block))
    flush()
    if not messages:
        raise invalid_value(path, f"{path} holds no text.")
    return messages


def _result(block: Fields, ignored: list[str]) -> dict[str, Any]:
    call_id = block.need_text("tool_use_id")
    given = block.take("content")
    text = (
        given
        if isinstance(given, str)
        else "".join(_texts(given, block.path("content"), ignored)) if given is not None else ""
    )  # fmt: skip
    # A chat's result of a tool has no field for this, so the model is told in words.
    failed = block.boolean("is_error")
    block.end()
    return {"role": "tool", "tool_call_id": call_id, "content": f"Error: {text}" if failed else text}


def _assistant(content: Any, path: str, ignored: list[str]) -> dict[str, Any]:
    texts: list[str] = []
    reasoning: list[str] = []
    calls: list[dict[str, Any]] = []
    for block in _blocks(content, path, ignored):
        match block.take("type"):
            case "thinking":
                reasoning.append(str(block.text("thinking") or ""))
                block.text("signature")
                block.end()
            case "tool_use":
                calls.append(_call(block))
            case _:
                texts.append(_text(block))
    message: dict[str, Any] = {"role": "assistant", "content": "".join(texts)}
    if calls:
        message["tool_calls"] = calls
    if any(reasoning):
        message["reasoning_content"] = "".join(reasoning)
    return message


def _call(block: Fields) -> dict[str, Any]:
    name, given = block.need_text("name"), block.need("input")
    if not isinstance(given, dict):
        raise invalid_value(block.path("input"), f"{block.path('input')} has to be an object.")
    call_id = block.need_text("id")
    block.only("caller", {"type": "direct"})
    block.end()
    try:
        arguments = orjson.dumps(given).decode()
    except orjson.JSONEncodeError:
        raise invalid_value(
            block.path("input"), f"{block.path('input')} cannot be written as JSON."
        ) from None
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}


def _texts(value: Any, path: str, ignored: list[str]) -> list[str]:
    return [_text(block) for block in _blocks(value, path, ignored)]


def _blocks(value: Any, path: str, ignored: list[str]) -> list[Fields]:
    if not isinstance(value, list):
        raise invalid_value(path, f"{path} has to be a string or a list of blocks.")
    blocks = [Fields(one, f"{path}[{index}]", ignored) for index, one in enumerate(value)]
    for block in blocks:
        block.ignore("cache_control")
    return blocks


def _text(block: Fields) -> str:
    kind = block.need("type")
    if kind != "text":
        raise unsupported(
            block.path("type"), f"{block.path('type')} is {str(kind)[:40]!r}, which is not supported here."
        )
    text = block.text("text")
    if text is None:
        block.need("text")
    block.ignore("citations")
    block.end()
    return text or ""
