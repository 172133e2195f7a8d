"""What the calls of a request are held to: the schemas of its tools, as far as they can be kept."""

import json
from functools import lru_cache
from typing import Any

from kindling_engine.constraints.base import ConstraintError
from kindling_engine.constraints.grammar_text import grammar_text, size_check
from kindling_engine.constraints.schema import schema_loosen, schema_prepare
from kindling_engine.server.tool_fields import Tool, ToolAsk
from kindling_engine.server.tools.grammar import BoundTool
from kindling_engine.server.tools.tagged import TagForm
from kindling_engine.server.tools.tagged_grammar import TaggedRules, tagged_unkept

REMEMBERED_CHARS = 16 * 1024
_ANY_OBJECT: dict[str, Any] = {"type": "object"}


def tools_bind(asked: ToolAsk, *, tags: TagForm | None = None) -> tuple[list[BoundTool], tuple[str, ...]]:
    """The tools that may be called, and which parts of their schemas have no effect; calls with ``tags`` keep fewer.

    Arguments are bound where the tool wants it, then to all of its schema; and where a call is demanded, then to what
    of it can be kept. Raises ConstraintError for a schema that is none.
    """
    bound: list[BoundTool] = []
    unkept: set[str] = set()
    for tool in asked.tools:
        if asked.only not in ("", tool.name):
            continue
        parameters = tool.parameters if tool.strict else _ANY_OBJECT
        if asked.choice == "required" and not tool.strict:
            parameters, keywords = _loosened(tool)
            if tags is not None:
                parameters, more = _tagged(tool.name, parameters, tags)
                keywords += more
            unkept |= {f"{asked.schemas}{keyword}" for keyword in keywords}
        bound.append(BoundTool(tool.name, parameters, tool.place, lenient=not tool.strict))
    return bound, tuple(sorted(unkept))


def _loosened(tool: Tool) -> tuple[dict[str, Any], list[str]]:
    """Parameters that can be kept, and what was left out: each keyword with its dot, "" for all that they say."""
    try:
        schema, names = schema_loosen(json.dumps(tool.parameters))
    except ConstraintError as error:
        if error.code != "unsupported_schema":
            raise ConstraintError(error.code, f"{tool.place}: {error.message}") from None
        return _ANY_OBJECT, [""]
    return (schema, [f".{name}" for name in names]) if _is_kept(schema) else (_ANY_OBJECT, [""])


def _tagged(name: str, parameters: dict[str, Any], form: TagForm) -> tuple[dict[str, Any], list[str]]:
    """Parameters that calls between tags can be held to, and what has no effect on them."""
    try:
        TaggedRules(form, {}).call(name, parameters, 0, lenient=True)
    except ConstraintError:
        return _ANY_OBJECT, [""]
    return parameters, [f".{keyword}" for keyword in sorted(tagged_unkept(parameters, form))]


def _is_kept(schema: dict[str, Any]) -> bool:
    """Whether the library has nothing against it. Agents send the same tools with every turn."""
    text = json.dumps(schema)
    return _is_text_kept(text) if len(text) <= REMEMBERED_CHARS else _is_text_kept.__wrapped__(text)


@lru_cache(maxsize=1024)
def _is_text_kept(text: str) -> bool:
    try:
        prepared = schema_prepare(text)
        size_check(prepared)
        grammar_text("lark", f"start: %json {json.dumps(prepared)}")
    except ConstraintError:
        return False
    return True
