"""From the body of the Responses API to a chat completion's, and to what the answer repeats of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from kindling_platform.gateway.ask import FLEX
from kindling_platform.gateway.errors import GatewayError
from kindling_platform.gateway.surface.body import Translated, object_read
from kindling_platform.gateway.surface.fields import Fields, invalid_value, unsupported
from kindling_platform.gateway.surface.metadata import metadata_read
from kindling_platform.gateway.surface.naming import Naming
from kindling_platform.gateway.surface.responses.conversation import messages_of
from kindling_platform.gateway.surface.responses.items import Item, items_read
from kindling_platform.gateway.surface.responses.tools import tools_translate

LOGPROBS = "message.output_text.logprobs"
ENCRYPTED = "reasoning.encrypted_content"
# Room for the answer that `truncation` leaves where the body names none, and the most where it does: of the context.
ANSWER_SHARE, MOST_ANSWER_SHARE = 4, 2
NAMES = {
    "messages": "input",
    "max_completion_tokens": "max_output_tokens",
    "max_tokens": "max_output_tokens",
    "prompt_truncate_len": "truncation",
    "reasoning_effort": "reasoning.effort",
    "response_format.json_schema": "text.format",
    "response_format": "text.format",
    "tool_choice.function": "tool_choice",
}


@dataclass(frozen=True, slots=True)
class ResponseAsk:
    """A body that was read: `chat` lacks its messages alone, `items` are this turn's, `echo` goes into the answer.

    `tools` are the places of the chat's tools.
    """

    chat: dict[str, Any]
    instructions: str
    items: list[Item]
    previous_id: str
    store: bool
    background: bool
    shortens: bool
    echo: dict[str, Any]
    ignored: tuple[str, ...]
    tools: list[str]

    @property
    def naming(self) -> Naming:
        """The client's names for what the engine gets."""
        return Naming(NAMES, tools=self.tools)

    def translate(self, earlier: Sequence[Item], *, context_length: int) -> Translated:
        """The body for the engine, behind the items of the responses before it."""
        messages = messages_of([*earlier, *self.items])
        if not messages:
            raise invalid_value("input", "input holds nothing to answer.")
        if self.instructions:
            messages.insert(0, {"role": "system", "content": self.instructions})
        chat = self.chat | {"messages": messages}
        if self.shortens:
            asked = self.chat.get("max_completion_tokens") or context_length // ANSWER_SHARE
            room = min(asked, context_length // MOST_ANSWER_SHARE)
            chat["prompt_truncate_len"] = max(1, context_length - room)
            chat["context_length_exceeded_behavior"] = "truncate"
        return Translated(chat, self.ignored)


def response_body_read(raw: bytes, *, counting: bool = False) -> ResponseAsk:
    """Read a body; `counting` reads that of ``input_tokens``, which asks for no answer. Errors: 400 ones."""
    fields = Fields(object_read(raw))
    chat: dict[str, Any] = {"model": fields.need_text("model")}
    echo: dict[str, Any] = {}
    items = items_read(fields.need("input"), fields.ignored)
    instructions = fields.text("instructions")
    _text_format(fields, chat, echo)
    _reasoning(fields, chat, echo)
    echo["tools"], echo["tool_choice"], tools = tools_translate(fields, chat)
    parallel = fields.boolean("parallel_tool_calls")
    if parallel is False and "tools" in chat:
        chat["parallel_tool_calls"] = False
    shortens = fields.choice("truncation", "auto", "disabled") == "auto"
    previous_id = fields.text("previous_response_id", chars=128)
    echo |= {
        "instructions": instructions,
        "parallel_tool_calls": parallel is not False,
        "previous_response_id": previous_id,
        "truncation": "auto" if shortens else "disabled",
    }
    if not counting:
        _answer(fields, chat, echo)
    fields.end()
    return ResponseAsk(
        chat=chat,
        instructions=instructions or "",
        items=items,
        previous_id=previous_id or "",
        store=echo.get("store", False),
        background=echo.get("background", False),
        shortens=shortens,
        echo=echo,
        ignored=tuple(fields.ignored),
        tools=tools,
    )


def _answer(fields: Fields, chat: dict[str, Any], echo: dict[str, Any]) -> None:
    """How the answer is made, sent and kept."""
    stream = bool(fields.boolean("stream"))
    if stream:
        chat |= {"stream": True, "stream_options": {"include_usage": True}}
    _sampling(fields, chat, echo)
    _logprobs(fields, chat, echo)
    store = fields.boolean("store") is not False
    background = _background(fields, stream=stream, store=store)
    echo |= {"store": store, "background": background, "metadata": metadata_read(fields)}
    tier = fields.choice("service_tier", "auto", "default", FLEX, "priority")
    if tier == FLEX:
        chat["service_tier"] = echo["service_tier"] = FLEX
    elif tier == "priority":
        fields.ignored.append("service_tier")
    _harmless(fields, echo)


def _background(fields: Fields, *, stream: bool, store: bool) -> bool:
    """Whether nobody waits for the answer: then it has to be kept, and is not streamed."""
    if not fields.boolean("background"):
        return False
    if stream:
        raise unsupported("stream", "A response with background true is not streamed; read it by its id.")
    if not store:
        raise invalid_value("store", "A response with background true has to be kept: leave store out.")
    return True


def _sampling(fields: Fields, chat: dict[str, Any], echo: dict[str, Any]) -> None:
    fields.copy(chat, "temperature", "top_p")
    # What a request bounds for itself is the gateway's own, and read behind the translation.
    fields.copy(chat, "max_cost", "deadline_ms")
    limit = fields.integer("max_output_tokens", low=1)
    if limit is not None:
        chat["max_completion_tokens"] = limit
    echo |= {
        "max_output_tokens": limit,
        "temperature": chat.get("temperature", 1.0),
        "top_p": chat.get("top_p", 1.0),
    }


def _logprobs(fields: Fields, chat: dict[str, Any], echo: dict[str, Any]) -> None:
    include = fields.items("include")
    for index, one in enumerate(include):
        if one not in (LOGPROBS, ENCRYPTED):
            path = f"include[{index}]"
            raise GatewayError(
                400, "unsupported_field", f"{path} {str(one)[:60]!r} is not supported.", param=path
            )
    if ENCRYPTED in include:  # reasoning is given as text, which can be sent back
        fields.ignored.append("include.reasoning.encrypted_content")
    top = fields.integer("top_logprobs", low=0, high=20)
    if top or LOGPROBS in include:
        chat |= {"logprobs": True, "top_logprobs": top or 0}
    echo["top_logprobs"] = top or 0


def _text_format(fields: Fields, chat: dict[str, Any], echo: dict[str, Any]) -> None:
    text = fields.inside("text")
    shown: dict[str, Any] = {"type": "text"}
    if text:
        form = text.inside("format")
        if form:
            kind = form.need("type")
            shown = {"type": form.choice("type", "text", "json_object", "json_schema")}
            if kind == "json_schema":
                schema = {"name": form.need_text("name"), "schema": form.need("schema")}
                form.copy(schema, "description", "strict")
                shown |= schema
                chat["response_format"] = {"type": kind, "json_schema": schema}
            elif kind == "json_object":
                chat["response_format"] = {"type": kind}
            form.end()
        if text.choice("verbosity", "low", "medium", "high") not in (None, "medium"):
            fields.ignored.append("text.verbosity")
        text.end()
    echo["text"] = {"format": shown}


def _reasoning(fields: Fields, chat: dict[str, Any], echo: dict[str, Any]) -> None:
    reasoning = fields.inside("reasoning")
    effort = None
    if reasoning:
        reasoning.copy(chat, "effort")
        if (effort := chat.pop("effort", None)) is not None:
            chat["reasoning_effort"] = effort
        for name in ("summary", "generate_summary"):
            if reasoning.choice(name, "auto", "concise", "detailed"):
                fields.ignored.append(f"reasoning.{name}")
        reasoning.end()
    echo["reasoning"] = {"effort": effort, "summary": None}


def _harmless(fields: Fields, echo: dict[str, Any]) -> None:
    """What is repeated, has no effect, or is allowed only while it asks for nothing."""
    if options := fields.inside("stream_options"):
        options.ignore("include_obfuscation")
        options.end()
    for name in ("user", "safety_identifier", "prompt_cache_key"):
        echo[name] = fields.text(name, chars=512)
    fields.ignore("user", "safety_identifier", "prompt_cache_key", "prompt_cache_retention", "max_tool_calls")
    fields.ignore("client_metadata")
