"""Functions and tool_choice of a Responses body as a chat completion's."""

from typing import Any

from kindling_platform.gateway.surface.fields import Fields, invalid_value, unsupported

MAX_OTHERS = 128
Tool = dict[str, Any]


def tools_translate(fields: Fields, chat: dict[str, Any]) -> tuple[list[Tool], Any, list[str]]:
    """Put the tools into a chat's body; gives tools and choice as the answer repeats them, and places of the chat's.

    Tools that are no functions are left out, since clients offer them everywhere. Errors: a call is demanded and such a
    tool might be meant.
    """
    functions: dict[str, Tool] = {}
    others: list[Fields] = []
    for index, one in enumerate(fields.items("tools")):
        place = f"tools[{index}]"
        tool = Fields(one, place, fields.ignored)
        if tool.need_text("type") == "function":
            functions[place] = _tool(tool)
        else:
            others.append(tool)
            fields.ignored.append(place)
    chosen, choice = _choice(fields, chat, [tool["name"] for tool in functions.values()])
    if len(others) > MAX_OTHERS:  # each is a name in a header
        raise invalid_value("tools", f"tools may hold at most {MAX_OTHERS} tools that are no functions.")
    if others and choice == "required":
        path = others[0].path("type")
        kind = str(others[0].take("type"))[:40]
        raise unsupported(path, f"{path} is {kind!r}; a call can be demanded of functions only.")
    places = [place for place, tool in functions.items() if tool["name"] in chosen]
    if places:
        chat["tools"] = [_chat_tool(functions[place]) for place in places]
    return list(functions.values()), choice, places


def _tool(tool: Fields) -> Tool:
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
