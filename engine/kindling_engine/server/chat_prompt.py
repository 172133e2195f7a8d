"""From messages and what belongs to them to the prompt's tokens."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kindling_engine.server.chat_family import ChatFamily
from kindling_engine.server.errors import invalid_value, unsupported_field
from kindling_engine.server.model_text import ModelText
from kindling_engine.server.reasoning_fields import ReasoningAsk
from kindling_engine.server.request_common import ModelFacts, parts_encode
from kindling_engine.server.safe_text import SafeText, mark_pick
from kindling_engine.server.template_process import template_process


@dataclass(frozen=True, slots=True)
class ChatPrompt:
    """The rendered prompt and its tokens."""

    text: str
    ids: list[int]


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
) -> ChatPrompt:
    """Render and encode. ``safe`` reads control tokens inside messages as letters; ``large`` messages are made ready in
    a thread, so that the event loop goes on streaming to the others.

    Errors: `invalid_value` when the template refuses, `context_length_exceeded`, `unsupported_field` where the template
    drops reasoning that was to be kept.
    """
    if large:
        fitted, guard = await asyncio.to_thread(_prepare, text, family, messages, reasoning.history, safe)
    else:
        fitted, guard = _prepare(text, family, messages, reasoning.history, safe)
    prompt = await template_process().render(family.template, fitted, tools, variables)
    if reasoning.history == "preserved":
        _check_kept(fitted, prompt)
    parts = guard.parts(prompt) if guard else [prompt]
    return ChatPrompt("".join(parts), await parts_encode(text, parts, "messages", facts))


def _prepare(
    text: ModelText, family: ChatFamily, messages: Sequence[dict[str, Any]], history: str, safe: bool
) -> tuple[list[dict[str, Any]], SafeText | None]:
    """The messages as the template gets them, and what cuts the prompt where control tokens were written."""
    fitted = [_fit(one, family) for one in _with_history(messages, history)]
    if not safe:
        return fitted, None
    guard = _guard(text, family, fitted)
    return [guard.guard_message(one) for one in fitted], guard


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


def _fit(message: dict[str, Any], family: ChatFamily) -> dict[str, Any]:
    if message["role"] == "developer" and not family.knows_developer:
        return {**message, "role": "system"}
    return message


def _guard(text: ModelText, family: ChatFamily, messages: list[dict[str, Any]]) -> SafeText:
    mark = mark_pick(messages)
    if mark is None:
        raise invalid_value(
            "messages", "messages hold too many private-use characters; set safe_tokenization to false."
        )
    # Templates look for the marks of reasoning in earlier answers.
    allowed = {family.reasoning.start, family.reasoning.end} if family.reasoning else set()
    return SafeText(text.control_tokens - allowed, mark)


def _check_kept(messages: list[dict[str, Any]], prompt: str) -> None:
    for message in messages:
        if (reasoning := message.get("reasoning_content", "").strip()) and reasoning not in prompt:
            raise unsupported_field(
                "reasoning_history",
                "This model's chat template drops the reasoning of earlier answers; leave reasoning_history out.",
            )
