"""Checks chat messages and brings them into the plain form that templates expect."""

import json
from collections.abc import Iterator
from typing import Any

from kindling_engine.server.errors import ApiError, invalid_value, unsupported_field
from kindling_engine.server.fields import Fields, text_check

ROLES = ("system", "developer", "user", "assistant", "tool", "function")
MAX_MESSAGES = 10_000
# What clients and proxies leave in an earlier reply that they send back; nothing of it reaches the model.
WITHOUT_EFFECT = ("annotations", "audio", "parsed", "provider_specific_fields", "refusal", "thinking_blocks")
# So many unread fields of parts and calls are named, and names of such a length.
MAX_NAMED, MAX_NAME = 8, 40
# The names under which servers tell an earlier reply's reasoning.
REASONING_NAMES = ("reasoning_content", "reasoning", "thinking")
# The argument under which a call shows what its arguments were, where they are not those of a call.
BROKEN_ARGUMENTS = "INVALID_JSON"


def messages_read(value: Any) -> list[dict[str, Any]]:
    """The messages with text content joined and absent keys left out. Errors name the field by its path."""
    if not isinstance(value, list) or not value:
        raise invalid_value("messages", "messages must be a list of at least one message.")
    if len(value) > MAX_MESSAGES:
        raise invalid_value("messages", f"messages may hold at most {MAX_MESSAGES} messages.")
    messages = [_message(one, f"messages[{index}]") for index, one in enumerate(value)]
    return _modern(messages)


def messages_ignored(value: list[dict[str, Any]]) -> tuple[str, ...]:
    """The fields of messages that say something and have no effect. The messages have been read."""
    replies = [f"messages.{name}" for name in WITHOUT_EFFECT if any(_unused(one, name) for one in value)]
    beside = dict.fromkeys(place for one in value for place in _beside(one))
    return (*replies, *list(beside)[:MAX_NAMED])


def names_given(value: list[dict[str, Any]]) -> bool:
    """Whether a message says who speaks; that of a tool's answer is the tool's. The messages have been read."""
    return any(one.get("name") and one.get("role") not in ("tool", "function") for one in value)


def _beside(message: dict[str, Any]) -> Iterator[str]:
    """What parts and calls hold beside what is read of them, such as the mark up to which a prompt be cached.

    It goes into a header, so names that are no names are left out.
    """
    for part in _objects(message.get("content")):
        yield from _named(part, "messages.content", ("type", part["type"]))
    for call in _objects(message.get("tool_calls")):
        yield from _named(call, "messages.tool_calls", ("id", "type", "function"))
        yield from _named(call["function"], "messages.tool_calls.function", ("name", "arguments"))


def _objects(value: Any) -> list[dict[str, Any]]:
    return value if isinstance(value, list) else []


def _named(value: dict[str, Any], place: str, read: tuple[str, ...]) -> Iterator[str]:
    for name, said in value.items():
        is_name = len(name) <= MAX_NAME and name.isascii() and name.isidentifier()
        if is_name and name not in read and said is not None:
            yield f"{place}.{name}"


def _unused(message: dict[str, Any], name: str) -> bool:
    return bool(message.get(name)) and not (name == "refusal" and _is_refusal(message))


def _is_refusal(message: dict[str, Any]) -> bool:
    """Whether it is an earlier reply that said nothing but that it refuses."""
    said = message.get("content")
    return message["role"] == "assistant" and not said and isinstance(message.get("refusal"), str)


def _message(value: Any, path: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise invalid_value(path, f"{path} must be an object.")
    fields = Fields(value, f"{path}.")
    role = fields.need("role")
    if role not in ROLES:
        raise invalid_value(f"{path}.role", f"{path}.role must be one of {', '.join(ROLES)}.")
    message: dict[str, Any] = {"role": role}
    source = "refusal" if _is_refusal(value) else "content"
    content = fields.take(source)
    fields.take("content")
    calls = fields.take("tool_calls") if role == "assistant" else None
    old_call = fields.take("function_call") if role == "assistant" else None
    if content is not None:
        message["content"] = _content(content, f"{path}.{source}")
    elif role == "assistant":
        # A streamed answer without a word, as one that ended within a call, comes back so.
        message["content"] = ""
    else:
        raise ApiError(400, "missing_field", f"{path}.content is required.", param=f"{path}.content")
    if calls is not None:
        message.setdefault("content", "")
        if read := _tool_calls(calls, f"{path}.tool_calls"):
            message["tool_calls"] = read
    if old_call:
        call = _tool_call({"function": old_call}, path, function_path=f"{path}.function_call")
        message["function_call"] = call["function"]
        message.setdefault("content", "")
    for name in ("name", "tool_call_id", *REASONING_NAMES):
        text = fields.take(name)
        if text is not None:
            message[name] = text_check(text, f"{path}.{name}")
    for name in REASONING_NAMES[1:]:
        if name in message:
            message.setdefault(REASONING_NAMES[0], message.pop(name))
    fields.present(*WITHOUT_EFFECT)
    fields.end()
    return message


def _modern(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The older function_call and role function as a tool call and its result, which is what templates know."""
    call_id = ""
    for index, message in enumerate(messages):
        function = message.pop("function_call", None)
        if function is not None and "tool_calls" not in message:
            # Nine letters and digits, for the templates that insist on it.
            call_id = f"call{index:05d}"
            message["tool_calls"] = [{"type": "function", "function": function, "id": call_id}]
        if message["role"] == "function":
            message["role"] = "tool"
            message["tool_call_id"] = call_id or f"call{index:05d}"
    return messages


def _content(value: Any, path: str) -> str:
    if isinstance(value, str):
        return text_check(value, path)
    if not isinstance(value, list):
        raise invalid_value(path, f"{path} must be a string or a list of parts.")
    return "".join(_part(one, f"{path}[{index}]") for index, one in enumerate(value))


def _part(value: Any, path: str) -> str:
    if not isinstance(value, dict):
        raise invalid_value(path, f"{path} must be an object.")
    kind = value.get("type")
    if kind not in ("text", "refusal"):
        raise unsupported_field(
            f"{path}.type", f"{path} is of type {str(kind)[:40]!r}, which is not supported."
        )
    return text_check(value.get(kind), f"{path}.{kind}")


def _tool_calls(value: Any, path: str) -> list[dict[str, Any]]:
    if not isinstance(value, list):
        raise invalid_value(path, f"{path} must be a list.")
    return [_tool_call(one, f"{path}[{index}]") for index, one in enumerate(value)]


def _tool_call(value: Any, path: str, *, function_path: str = "") -> dict[str, Any]:
    place = function_path or f"{path}.function"
    function = value.get("function") if isinstance(value, dict) else None
    if not isinstance(function, dict):
        raise invalid_value(function_path or path, f"{function_path or path} must hold a function.")
    name = text_check(function.get("name"), f"{place}.name", empty_ok=False)
    given = function.get("arguments")
    arguments = _arguments("" if given is None else text_check(given, f"{place}.arguments"))
    call: dict[str, Any] = {"type": "function", "function": {"name": name, "arguments": arguments}}
    if isinstance(value.get("id"), str):
        call["id"] = text_check(value["id"], f"{path}.id")
    return call


def _arguments(given: str) -> dict[str, Any]:
    """A call's arguments as an object: templates print or iterate it, and would quote a string once more.

    A model's own call may be cut off or broken. It is shown as what it was, so that the conversation can go on.
    """
    try:
        arguments = json.loads(given.strip() or "null")
        # Half a surrogate pair, escaped, is JSON that no prompt can hold.
        json.dumps(arguments, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        return {BROKEN_ARGUMENTS: given}
    if arguments is None:
        return {}
    return arguments if isinstance(arguments, dict) else {BROKEN_ARGUMENTS: given}
