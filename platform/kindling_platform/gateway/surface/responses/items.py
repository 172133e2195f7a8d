"""Items of the Responses API: read from a body into one plain form, which is stored and listed as it is."""

import secrets
from collections.abc import Sequence
from typing import Any

from kindling_platform.gateway.surface.fields import Fields, invalid_value, unsupported

ROLES = ("user", "system", "developer", "assistant")
MAX_ITEMS = 10_000
STATUSES = ("in_progress", "completed", "incomplete")
REFERENCE = "item_reference"
Item = dict[str, Any]


def items_read(value: Any, ignored: list[str]) -> list[Item]:
    """The items of `input`: a string is a user's message. Errors name the item by its place."""
    if isinstance(value, str):
        return [message_item("user", [{"type": "input_text", "text": value}])]
    if not isinstance(value, list):
        raise invalid_value("input", "input has to be a string or a list of items.")
    if len(value) > MAX_ITEMS:
        raise invalid_value("input", f"input may hold at most {MAX_ITEMS} items.")
    return [_item(Fields(one, f"input[{index}]", ignored)) for index, one in enumerate(value)]


def ids_distinct(items: Sequence[Item]) -> list[Item]:
    """The items, with another id where one comes again: a page of them begins behind an id."""
    seen: set[str] = set()
    told = []
    for item in items:
        distinct = item | {"id": _new_id("item")} if item["id"] in seen else item
        seen.add(distinct["id"])
        told.append(distinct)
    return told


def message_item(role: str, content: list[dict[str, Any]], item_id: str = "") -> Item:
    """A message in the stored form."""
    return {
        "id": item_id or _new_id("msg"),
        "type": "message",
        "role": role,
        "status": "completed",
        "content": content,
    }


def _item(fields: Fields) -> Item:
    kind = fields.take("type")
    fields.choice("status", *STATUSES)
    given_id = fields.text("id", chars=128) or ""
    match kind:
        case None | "message":
            item = _message(fields, given_id)
        case "function_call":
            item = {
                "id": given_id or _new_id("fc"),
                "type": kind,
                "status": "completed",
                "call_id": fields.need_text("call_id"),
                "name": fields.need_text("name"),
                "arguments": fields.text("arguments") or "{}",
            }
            fields.only("caller", {"type": "direct"})
            fields.only("async", False)
        case "function_call_output":
            item = {
                "id": given_id or _new_id("fco"),
                "type": kind,
                "status": "completed",
                "call_id": fields.need_text("call_id"),
                "output": _output(fields),
            }
        case "reasoning":
            item = _reasoning(fields, given_id)
        case "item_reference":  # whoever resolves it tells the place of one that is gone
            item = {"id": fields.need_text("id"), "type": REFERENCE, "place": fields.path("id")}
        case _:
            raise unsupported(
                fields.path("type"),
                f"{fields.path('type')} is {str(kind)[:40]!r}, which is not supported here.",
            )
    fields.end()
    return item


def _message(fields: Fields, given_id: str) -> Item:
    fields.need("role")
    role = str(fields.choice("role", *ROLES))
    fields.ignore("phase")
    content, own = fields.need("content"), "output_text" if role == "assistant" else "input_text"
    if isinstance(content, str):
        return message_item(role, [_text_part(own, content)], given_id)
    if not isinstance(content, list):
        path = fields.path("content")
        raise invalid_value(path, f"{path} has to be a string or a list of parts.")
    path = fields.path("content")
    parts = [_part(Fields(one, f"{path}[{index}]", fields.ignored), own) for index, one in enumerate(content)]
    return message_item(role, parts, given_id)


def _part(part: Fields, own: str) -> dict[str, Any]:
    kind = part.need("type")
    name = "refusal" if kind == "refusal" else "text"
    if kind not in ("input_text", "output_text", "refusal"):
        raise unsupported(
            part.path("type"), f"{part.path('type')} is {str(kind)[:40]!r}, which is not supported here."
        )
    text = part.text(name)
    if text is None:
        part.need(name)
    part.ignore("annotations", "logprobs")
    part.end()
    return _text_part(own, text or "")


def _text_part(kind: str, text: str) -> dict[str, Any]:
    return {"type": kind, "text": text} | ({"annotations": []} if kind == "output_text" else {})


def _output(fields: Fields) -> str:
    """What a function gave: a string, or parts of text."""
    given, path = fields.need("output"), fields.path("output")
    if isinstance(given, str):
        return given
    if not isinstance(given, list):
        raise invalid_value(path, f"{path} has to be a string or a list of parts.")
    parts = [Fields(one, f"{path}[{index}]", fields.ignored) for index, one in enumerate(given)]
    return "".join(str(_part(part, "input_text")["text"]) for part in parts)


def _reasoning(fields: Fields, given_id: str) -> Item:
    """Reasoning of an earlier answer, which comes back as it was given."""
    texts = [
        str(Fields(one, f"{fields.path(name)}[{index}]").text("text") or "")
        for name in ("content", "summary")
        for index, one in enumerate(fields.items(name))
    ]
    if fields.take("encrypted_content") is not None and not texts:
        path = fields.path("encrypted_content")
        raise unsupported(
            path, f"{path} is another server's secret; send the reasoning's content, or leave it out."
        )
    content = [{"type": "reasoning_text", "text": text} for text in texts]
    return {"id": given_id or _new_id("rs"), "type": "reasoning", "summary": [], "content": content}


def _new_id(prefix: str) -> str:
    return f"{prefix}_{secrets.token_hex(16)}"
