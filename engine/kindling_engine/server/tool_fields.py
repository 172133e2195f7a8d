"""Tools of a request: what was offered, and whether one must be called."""

import json
import re
from dataclasses import dataclass, replace
from typing import Any

from kindling_engine.server.errors import ApiError, invalid_value, unsupported_field
from kindling_engine.server.fields import Fields, text_check

MAX_TOOLS = 128
MAX_TOOL_CHARS = 64 * 1024
_NAME = re.compile(r"[A-Za-z0-9_.\-]{1,64}")
_NO_PARAMETERS = {"type": "object", "properties": {}, "additionalProperties": False}


@dataclass(frozen=True, slots=True)
class Tool:
    """One offered function; ``strict`` asks for arguments that match the schema even when nothing must be called.

    ``place`` says where the body has the schema.
    """

    name: str
    function: dict[str, Any]
    strict: bool
    place: str

    @property
    def parameters(self) -> dict[str, Any]:
        schema: dict[str, Any] = self.function["parameters"]
        return schema

    @property
    def shown(self) -> dict[str, Any]:
        """What templates print."""
        return {"type": "function", "function": self.function}


@dataclass(frozen=True, slots=True)
class ToolAsk:
    """What the body says about tools. ``choice`` is none, auto or required; ``only`` names the one to be called.

    ``given`` is the choice as it was written; ``functions`` tells that the old fields were used, and want the old form
    of answer.
    """

    tools: tuple[Tool, ...] = ()
    choice: str = "auto"
    only: str = ""
    parallel: bool = True
    functions: bool = False
    given: Any = None

    @property
    def active(self) -> bool:
        """Whether the model gets to see tools."""
        return bool(self.tools) and self.choice != "none"

    @property
    def demanded(self) -> bool:
        """Whether the answer is a call and nothing else."""
        return self.active and self.choice == "required"

    @property
    def binds(self) -> bool:
        """Whether calls are held to something, or to be made."""
        return self.active and (self.demanded or not self.parallel or any(tool.strict for tool in self.tools))

    @property
    def field(self) -> str:
        return "functions" if self.functions else "tools"

    @property
    def schemas(self) -> str:
        """The field of the functions' schemas."""
        return "functions.parameters" if self.functions else "tools.function.parameters"


def tool_fields_read(fields: Fields) -> ToolAsk:
    """Read tools, tool_choice and parallel_tool_calls, or the older functions and function_call.

    Errors: `invalid_value`, `missing_field`, `unsupported_field`.
    """
    tools = _list(fields, "tools")
    functions = _list(fields, "functions")
    parallel = True if fields.take("parallel_tool_calls") is None else fields.boolean("parallel_tool_calls")
    if tools and functions:
        raise invalid_value("functions", "Give either tools or the older functions, not both.")
    if functions:
        offered = tuple(_function(one, f"functions[{index}]") for index, one in enumerate(functions))
        choice, only = _old_choice(fields)
        given = fields.take("function_call")
        ask = ToolAsk(offered, choice, only, parallel=False, functions=True, given=given)
        other = "tool_choice"
    else:
        offered = tuple(_tool(one, f"tools[{index}]") for index, one in enumerate(tools))
        ask = _ask(fields.take("tool_choice"), offered, parallel=parallel)
        other = "function_call"
    fields.only(other, "none", "auto")
    if fields.take(other) == "none":  # in the other form's words, and as clear
        ask = replace(ask, choice="none", only="", given="none")
    _check_names(ask)
    return ask


def _list(fields: Fields, name: str) -> list[Any]:
    value = fields.take(name)
    if value is None:
        return []
    if not isinstance(value, list):
        raise invalid_value(name, f"{name} must be a list.")
    if len(value) > MAX_TOOLS:
        raise invalid_value(name, f"{name} may hold at most {MAX_TOOLS} functions.")
    return value


def _tool(value: Any, path: str) -> Tool:
    if not isinstance(value, dict):
        raise invalid_value(path, f"{path} must be an object.")
    fields = Fields(value, f"{path}.")
    if (kind := fields.need("type")) != "function":
        raise unsupported_field(f"{path}.type", f"{path}.type must be function, not {str(kind)[:40]!r}.")
    tool = _function(fields.need("function"), f"{path}.function")
    if fields.boolean("strict") and not tool.strict:  # some clients put it here
        tool = replace(tool, strict=True)
    fields.end()
    return tool


def _function(value: Any, path: str) -> Tool:
    if not isinstance(value, dict):
        raise invalid_value(path, f"{path} must be an object.")
    fields = Fields(value, f"{path}.")
    name = fields.need("name")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise invalid_value(
            f"{path}.name", f"{path}.name must be up to 64 letters, digits, underscores, hyphens and dots."
        )
    description = fields.take("description")
    if description is not None:
        text_check(description, f"{path}.description")
    fields.object("parameters")
    strict = fields.boolean("strict")
    fields.end()
    function = {key: one for key, one in value.items() if key != "strict" and one is not None}
    function.setdefault("parameters", _NO_PARAMETERS)
    _check_json(function, path)
    return Tool(name, function, strict, f"{path}.parameters")


def _check_json(value: dict[str, Any], path: str) -> None:
    """What templates print must be printable, and of a bearable size."""
    try:
        written = json.dumps(value, ensure_ascii=False)
        size = len(written.encode())
    except (RecursionError, UnicodeEncodeError):
        raise invalid_value(path, f"{path} is nested too deeply or holds half a surrogate pair.") from None
    if size > MAX_TOOL_CHARS:
        raise invalid_value(path, f"{path} may have at most {MAX_TOOL_CHARS // 1024} KiB as JSON.")


def _ask(value: Any, offered: tuple[Tool, ...], *, parallel: bool) -> ToolAsk:
    """What ``tool_choice`` makes of the tools."""
    ask = ToolAsk(offered, parallel=parallel, given=value)
    if value is None or value in ("auto", "none"):
        return replace(ask, choice=value or "auto")
    if value in ("required", "any"):
        return replace(ask, choice="required")
    if not isinstance(value, dict):
        raise invalid_value(
            "tool_choice", "tool_choice must be none, auto, required, any or an object that names a function."
        )
    if value.get("type") == "allowed_tools":
        return _allowed(value, ask)
    return replace(ask, choice="required", only=_named(value, "tool_choice"))


def _allowed(value: dict[str, Any], ask: ToolAsk) -> ToolAsk:
    """Some of the tools: the model is shown those alone."""
    outer = Fields(value, "tool_choice.")
    outer.need("type")
    place = outer.path("allowed_tools")
    inner = Fields(outer.object("allowed_tools") or {}, f"{place}.")
    outer.end()
    mode, named = inner.need("mode"), inner.need("tools")
    inner.end()
    if mode not in ("auto", "required"):
        raise invalid_value(inner.path("mode"), f"{inner.path('mode')} must be auto or required.")
    if not isinstance(named, list):
        raise invalid_value(inner.path("tools"), f"{inner.path('tools')} must be a list.")
    names = {_named(one, f"{inner.path('tools')}[{index}]") for index, one in enumerate(named)}
    if unknown := names - {tool.name for tool in ask.tools}:
        raise invalid_value(
            inner.path("tools"),
            f"{inner.path('tools')} names {min(unknown)[:64]!r}, which is not among the tools.",
        )
    return replace(
        ask, tools=tuple(tool for tool in ask.tools if tool.name in names), choice=mode, given=mode
    )


def _named(value: Any, path: str) -> str:
    """The name in an object that names a function."""
    if not isinstance(value, dict):
        raise invalid_value(path, f"{path} must be an object that names a function.")
    inner = Fields(value, f"{path}.")
    if (kind := inner.need("type")) != "function":
        raise unsupported_field(f"{path}.type", f"{path}.type must be function, not {str(kind)[:40]!r}.")
    function = inner.object("function")
    place = f"{path}.function.name"
    name = inner.take("name") if function is None else Fields(function, f"{path}.function.").need("name")
    inner.end()
    if name is None:
        raise ApiError(400, "missing_field", f"{place} is required.", param=place)
    return text_check(name, place, empty_ok=False)


def _old_choice(fields: Fields) -> tuple[str, str]:
    value = fields.take("function_call")
    if value is None or value in ("auto", "none"):
        return value or "auto", ""
    if not isinstance(value, dict):
        raise invalid_value("function_call", "function_call must be none, auto or an object with a name.")
    inner = Fields(value, "function_call.")
    name = text_check(inner.need("name"), "function_call.name", empty_ok=False)
    inner.end()
    return "required", name


def _check_names(ask: ToolAsk) -> None:
    names = [tool.name for tool in ask.tools]
    if len(set(names)) != len(names):
        raise invalid_value(ask.field, f"{ask.field} holds two functions of one name.")
    choice = "function_call" if ask.functions else "tool_choice"
    if ask.choice == "required" and not names:
        raise invalid_value(choice, f"{choice} needs tools to choose from.")
    if ask.only and ask.only not in names:
        raise invalid_value(choice, f"{choice} names {ask.only[:64]!r}, which is not among the tools.")
