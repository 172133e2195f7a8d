"""Anthropic's tools and tool_choice as a chat completion's."""

from typing import Any

from kindling_platform.gateway.surface.fields import Fields, unsupported

CHOICES = {"auto": "auto", "any": "required", "none": "none"}


def tools_translate(fields: Fields, chat: dict[str, Any]) -> None:
    """Put the tools of a body into a chat's. Errors: tools that the vendor's servers run, by their place."""
    tools = [
        _tool(Fields(one, f"tools[{index}]", fields.ignored))
        for index, one in enumerate(fields.items("tools"))
    ]
    if tools:
        chat["tools"] = tools
    choice = fields.inside("tool_choice")
    if choice is None:
        return
    choice.need("type")
    kind = choice.choice("type", *CHOICES, "tool")
    if kind == "tool":
        chat["tool_choice"] = {"type": "function", "function": {"name": choice.need_text("name")}}
    else:
        chat["tool_choice"] = CHOICES[str(kind)]
    if choice.boolean("disable_parallel_tool_use"):
        chat["parallel_tool_calls"] = False
    choice.end()


def _tool(tool: Fields) -> dict[str, Any]:
    kind = tool.take("type")
    if kind not in (None, "custom"):
        raise unsupported(
            tool.path("type"),
            f"{tool.path('type')} is {str(kind)[:40]!r}; only tools of your own are supported.",
        )
    function: dict[str, Any] = {"name": tool.need_text("name"), "parameters": tool.need("input_schema")}
    tool.copy(function, "description", "strict")
    tool.only("defer_loading", False)
    tool.only("allowed_callers", ["direct"])
    tool.ignore("cache_control", "eager_input_streaming", "input_examples")
    tool.end()
    return {"type": "function", "function": function}
