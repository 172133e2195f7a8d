"""From messages and what belongs to them to the prompt's tokens."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from kindling_engine.server.chat_family import ChatFamily
from kindling_engine.server.errors import invalid_value, unsupported_field
from kindling_engine.server.harmony.history import harmony_messages
from kindling_engine.server.harmony.shown_tools import harmony_tools
from kindling_engine.server.model_text import ModelText, TextTooLongError
from kindling_engine.server.nesting import MAX_DEPTH, nested_too_deeply
from kindling_engine.server.reasoning_fields import ReasoningAsk
from kindling_engine.server.request_common import ModelFacts, parts_encode, prompt_too_long
from kindling_engine.server.safe_text import SafeText, mark_pick
from kindling_engine.server.template_process import template_process


@dataclass(frozen=True, slots=True)
class ChatPrompt:
    """The rendered prompt and its tokens."""

    text: str
    ids: list[int]


@dataclass(frozen=True, slots=True)
class _Given:
    """All that a template is given from a request."""

    messages: list[dict[str, Any]]
    tools: list[dict[str, Any]] | None
    variables: Mapping[str, Any]


async def chat_prompt_make(
    text: ModelText,
    facts: ModelFacts,
    family: ChatFamily,
    messages: Sequence[dict[str, Any]],
    *,
    tools: list[dict[str, Any]] | None,
    variables: Mapping[str, Any],
    reasoning: ReasoningAsk,
    safe: bool,
    large: bool,
    begins: bool = True,
) -> ChatPrompt:
    """Render and encode, ending where the assistant ``begins``. ``safe`` reads control tokens in what the request holds
    as letters; ``large`` requests are made ready in a thread, so that the event loop goes on streaming to the others.

    Errors: `invalid_value` when the template refuses or something is nested too deeply, `context_length_exceeded`,
    `unsupported_field` where the template drops reasoning that was to be kept.
    """
    _check_length(text, facts, family, messages)
    given = _Given(list(_with_history(messages, reasoning.history)), tools, variables)
    if large:
        given, guard = await asyncio.to_thread(_prepare, text, family, given, safe)
    else:
        given, guard = _prepare(text, family, given, safe)
    prompt = await template_process().render(
        family.template, given.messages, given.tools, given.variables, begins=begins
    )
    if reasoning.history == "preserved":
        _check_kept(given.messages, prompt)
    parts = guard.parts(prompt) if guard else [prompt]
    return ChatPrompt("".join(parts), await parts_encode(text, parts, "messages", facts))


def _check_length(
    text: ModelText, facts: ModelFacts, family: ChatFamily, messages: Sequence[dict[str, Any]]
) -> None:
    """What cannot fit is refused before anything is done with it."""
    chars = sum(_printed_chars(one, family) for one in messages)
    try:
        text.length_check(chars, facts.context_length)
    except TextTooLongError:
        raise prompt_too_long("messages", f"at least {chars} characters", facts) from None


def _printed_chars(message: dict[str, Any], family: ChatFamily) -> int:
    """How many characters of a message a template prints. Of earlier answers many print only what follows the
    reasoning, and nothing beside calls.
    """
    content = message.get("content", "")
    if message["role"] != "assistant":
        return len(content)
    if "tool_calls" in message:
        return 0
    reasoned = content.rfind(family.reasoning.end) + 1 if family.reasoning else 0
    return len(content) - reasoned


def _prepare(
    text: ModelText, family: ChatFamily, given: _Given, safe: bool
) -> tuple[_Given, SafeText | None]:
    """What the template gets, and what cuts the prompt where control tokens were written."""
    _check_depth(given)
    given = _fitted(given, family)
    if not safe:
        return given, None
    guard = _guard(text, given)
    return (
        _Given(
            messages=[guard.guard_message(one) for one in given.messages],
            tools=guard.guard_value(given.tools),
            variables={name: guard.guard_value(one) for name, one in given.variables.items()},
        ),
        guard,
    )


def _check_depth(given: _Given) -> None:
    calls = [one["tool_calls"] for one in given.messages if "tool_calls" in one]
    for field, value in (
        ("messages", calls), ("tools", given.tools), ("chat_template_kwargs", list(given.variables.values()))
    ):  # fmt: skip
        if nested_too_deeply(value):
            raise invalid_value(field, f"{field} may be nested {MAX_DEPTH} deep at most.")


def _with_history(messages: Sequence[dict[str, Any]], history: str) -> Sequence[dict[str, Any]]:
    """The messages with as much of earlier reasoning as was asked for."""
    if history not in ("disabled", "interleaved"):
        return messages
    last_user = max((index for index, one in enumerate(messages) if one["role"] == "user"), default=-1)
    keep_from = last_user if history == "interleaved" else len(messages)
    return [
        one if index > keep_from else {key: value for key, value in one.items() if key != "reasoning_content"}
        for index, one in enumerate(messages)
    ]


def _fitted(given: _Given, family: ChatFamily) -> _Given:
    """In the form that this family's templates know."""
    if family.harmony is not None:
        tools = harmony_tools(given.tools) if given.tools else given.tools
        return replace(given, messages=harmony_messages(given.messages), tools=tools)
    if family.knows_developer:
        return given
    messages = [{**one, "role": "system"} if one["role"] == "developer" else one for one in given.messages]
    return replace(given, messages=messages)


def _guard(text: ModelText, given: _Given) -> SafeText:
    mark = mark_pick(given.messages, given.tools, dict(given.variables))
    if mark is None:
        raise invalid_value(
            "messages", "messages hold too many private-use characters; set safe_tokenization to false."
        )
    return SafeText(text.control_tokens, mark)


def _check_kept(messages: list[dict[str, Any]], prompt: str) -> None:
    for message in messages:
        if (reasoning := message.get("reasoning_content", "").strip()) and reasoning not in prompt:
            raise unsupported_field(
                "reasoning_history",
                "This model's chat template drops the reasoning of earlier answers; leave reasoning_history out.",
            )
