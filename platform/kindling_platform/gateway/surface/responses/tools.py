"""Functions and tool_choice of a Responses body as a chat completion's."""

from typing import Any

from kindling_platform.gateway.surface.fields import Fields, invalid_value, unsupported


def tools_translate(fields: Fields, chat: dict[str, Any]) -> tuple[list[dict[str, Any]], Any]:
    """Put the tools into a chat's body; gives tools and choice as the answer repeats them.

    Errors: tools that the vendor's servers run, by their place.
    """
    shown = [
        _tool(Fields(one, f"tools[{index}]", fields.ignored))
        for index, one in enumerate(fields.items("tools"))
    ]
    chosen, choice = _choice(fields, chat, [tool["name"] for tool in shown])
    if chosen:
        chat["tools"] = [_chat_tool(tool) for tool in shown if tool["name"] in chosen]
    return shown, choice


def _tool(tool: Fields) -> dict[str, Any]:
    kind = tool.need("type")
    if kind != "function":
        raise unsupported(
            tool.path("type"), f"{tool.path('type')} is {str(kind)[:40]!r}; only functions are supported."
        )
    shown = {
        "type": "function",
        "name": tool.need_text("name"),
        "description": tool.text("description"),
        "parameters": tool.take("parameters"),
        "strict": bool(tool.boolean("strict")),
    }
    tool.only("defer_loading", False)
    tool.only("allowed_callers", ["direct"])
    tool.end()
    return shown


def _chat_tool(tool: dict[str, Any]) -> dict[str, Any]:
    function = {name: value for name, value in tool.items() if name != "type" and value is not None}
    return {"type": "function", "function": function}


def _choice(fields: Fields, chat: dict[str, Any], names: list[str]) -> tuple[set[str], Any]:
    """The names that the model may call, and the choice as it was made."""
    given = fields.take("tool_choice")
    if given is None:
        return set(names), "auto"
    if isinstance(given, str):
        chat["tool_choice"] = fields.choice("tool_choice", "none", "auto", "required")
        return set(names), given
    choice = Fields(given, "tool_choice", fields.ignored)
    kind = choice.need("type")
    if kind == "function":
        chat["tool_choice"] = {"type": "function", "function": {"name": choice.need_text("name")}}
        choice.end()
        return set(names), given
    if kind != "allowed_tools":
        raise unsupported("tool_choice.type", f"tool_choice.type {str(kind)[:40]!r} is not supported.")
    chat["tool_choice"] = choice.choice("mode", "auto", "required") or "auto"
    allowed = set()
    for index, one in enumerate(choice.items("tools")):
        tool = Fields(one, f"tool_choice.tools[{index}]")
        tool.choice("type", "function")
        allowed.add(tool.need_text("name"))
        tool.end()
    choice.end()
    if unknown := allowed - set(names):
        raise invalid_value("tool_choice.tools", f"{sorted(unknown)[0][:64]!r} is not among the tools.")
    return allowed, given
