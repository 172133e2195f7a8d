"""From the body of Anthropic's Messages API to a chat completion's."""

from typing import Any

from kindling_platform.gateway.surface.body import Translated, object_read
from kindling_platform.gateway.surface.fields import Fields, invalid_value
from kindling_platform.gateway.surface.messages.content import messages_translate, system_translate
from kindling_platform.gateway.surface.messages.tools import tools_translate
from kindling_platform.gateway.surface.naming import Naming

MAX_STOPS = 4
EFFORTS = ("low", "medium", "high", "xhigh", "max")
NAMES = {
    "max_completion_tokens": "max_tokens",
    "stop": "stop_sequences",
    "reasoning_effort": "output_config.effort",
    "response_format.json_schema": "output_config.format",
    "response_format": "output_config.format",
    "tool_choice.function": "tool_choice",
    "parallel_tool_calls": "tool_choice.disable_parallel_tool_use",
    ".parameters": ".input_schema",
}


def message_body_read(raw: bytes, *, counting: bool = False) -> Translated:
    """Translate a body; `counting` reads that of ``count_tokens``, which asks for no answer. Errors: 400 ones."""
    fields = Fields(object_read(raw))
    chat: dict[str, Any] = {"model": fields.need_text("model")}
    messages, places = messages_translate(fields.need("messages"), fields.ignored)
    system = system_translate(fields.take("system"), fields.ignored)
    chat["messages"] = system + messages
    if not counting:
        _answer(fields, chat)
    tools_translate(fields, chat)
    asked = _thinking(fields, chat)
    spare = {name: asked for name in ("thinking", "reasoning_effort") if asked and name in chat}
    fields.only("speed", "standard")
    fields.ignore("cache_control", "context_management")
    fields.end()
    naming = Naming(NAMES, messages=["system"] * len(system) + places)
    return Translated(chat, tuple(fields.ignored), spare, naming)


def _answer(fields: Fields, chat: dict[str, Any]) -> None:
    """Length, sampling and form of the answer."""
    fields.need("max_tokens")
    chat["max_tokens"] = fields.integer("max_tokens", low=1)
    # Clients send the most that a model makes, whatever the prompt leaves of the context.
    chat["context_length_exceeded_behavior"] = "truncate"
    stops = fields.items("stop_sequences")
    if len(stops) > MAX_STOPS:
        raise invalid_value("stop_sequences", f"stop_sequences may hold at most {MAX_STOPS} strings.")
    if not all(isinstance(stop, str) and stop for stop in stops):
        raise invalid_value("stop_sequences", "stop_sequences has to hold strings that are not empty.")
    if stops:
        chat["stop"] = stops
    fields.copy(chat, "temperature", "top_p", "top_k")
    # What a request bounds for itself is the gateway's own, and read behind the translation.
    fields.copy(chat, "max_cost", "deadline_ms")
    if fields.boolean("stream"):
        chat |= {"stream": True, "stream_options": {"include_usage": True}}
    fields.only("service_tier", "auto", "standard_only")
    fields.ignore("metadata")


def _thinking(fields: Fields, chat: dict[str, Any]) -> tuple[str, ...]:
    """Reasoning, and what output_config says of it and of the answer's format.

    Gives the names of what a model that does not reason is spared: some clients tell every model how much it may
    reason. Who is told to reason is not spared.
    """
    thinking, output = fields.inside("thinking"), fields.inside("output_config")
    kind = None
    asked: tuple[str, ...] = ()
    if thinking:
        kind = thinking.choice("type", "enabled", "disabled", "adaptive")
        if kind is None:
            thinking.need("type")
        if kind == "adaptive":
            asked = ("thinking",)
        chat["thinking"] = {"type": kind}
        thinking.copy(chat["thinking"], "budget_tokens")
        # All of the reasoning is shown: it is not summed up by anybody.
        thinking.only("display", "summarized")
        thinking.end()
    if output is None:
        return asked
    if effort := output.choice("effort", *EFFORTS):
        if kind in (None, "adaptive"):
            chat.pop("thinking", None)
            chat["reasoning_effort"] = effort
            asked = (*asked, "output_config.effort")
        else:  # a budget says more than a word
            fields.ignored.append("output_config.effort")
    if form := output.inside("format"):
        form.choice("type", "json_schema")
        form.need("type")
        schema = {"name": "answer", "schema": form.need("schema"), "strict": True}
        chat["response_format"] = {"type": "json_schema", "json_schema": schema}
        form.end()
    output.end()
    return asked
