"""From a chat completion's body to what the core is asked for."""

import asyncio
from dataclasses import replace
from typing import Any

from kindling_engine.protocol.sampling import Sampling, Thinking
from kindling_engine.server.chat_binding import answer_bind
from kindling_engine.server.chat_family import ChatFamily
from kindling_engine.server.chat_output import ChatShape
from kindling_engine.server.chat_prompt import ChatPrompt, chat_prompt_make
from kindling_engine.server.errors import invalid_value
from kindling_engine.server.fields import Fields
from kindling_engine.server.harmony.effort import harmony_effort
from kindling_engine.server.messages import messages_ignored, messages_read, names_given
from kindling_engine.server.model_text import ModelText
from kindling_engine.server.prediction_fields import (
    prediction_encode,
    prediction_helps,
    prediction_read,
)
from kindling_engine.server.prompt_fit import chat_fit
from kindling_engine.server.reasoning import ReasoningFamily
from kindling_engine.server.reasoning_fields import ReasoningAsk, reasoning_fields_read
from kindling_engine.server.request_common import (
    INLINE_BODY_BYTES,
    GenerationRequest,
    ModelFacts,
    Prompt,
    body_object,
    output_limit,
)
from kindling_engine.server.response_format import constraint_check, response_format_read
from kindling_engine.server.sampling_fields import common_fields_read
from kindling_engine.server.template_files import no_template
from kindling_engine.server.template_variables import template_variables_read
from kindling_engine.server.tool_fields import ToolAsk, tool_fields_read

MAX_TOP_LOGPROBS = 20
MAX_LOGPROBS_OLD_FORM = 5


async def chat_body_read(
    raw: bytes, text: ModelText, facts: ModelFacts, *, counts_only: bool = False
) -> GenerationRequest:
    """Read a chat completion's body. Errors: 400 ones only; with ``counts_only`` not for what exceeds the context."""
    fields = Fields(await body_object(raw))
    common = common_fields_read(fields, vocab_size=facts.vocab_size)
    large, given = len(raw) > INLINE_BODY_BYTES, fields.need("messages")
    messages = await asyncio.to_thread(messages_read, given) if large else messages_read(given)
    logprobs = _logprobs(fields)
    answer = response_format_read(fields)
    asked = tool_fields_read(fields)
    reasoning = reasoning_fields_read(fields)
    variables = template_variables_read(fields)
    safe = fields.take("safe_tokenization") is None or fields.boolean("safe_tokenization")
    predicted = prediction_read(fields)
    helps = prediction_helps(common.sampling, facts)
    unused = fields.present("verbosity")
    fields.only("modalities", ["text"])
    fields.only("echo", False)
    fields.end()
    await constraint_check(answer, fields)
    if text.chat is None:
        raise no_template()
    family = text.chat.pick(tools=asked.active)
    reasoning.check(reasons=family.reasons)
    names = family.template.names
    if family.harmony is not None:
        reasoning = harmony_effort(reasoning, names)
    constraint, unkept = await answer_bind(asked, reasoning, family, answer)

    async def prompt_make(kept: list[dict[str, Any]]) -> ChatPrompt:
        return await chat_prompt_make(
            text,
            facts,
            family,
            kept,
            tools=[tool.shown for tool in asked.tools] if asked.active else None,
            variables=chat_names(asked, reasoning, family) | variables,
            reasoning=reasoning,
            safe=safe,
            large=large,
        )

    prompt = await chat_fit(messages, common.truncate_to, prompt_make)
    limit = 0
    if not counts_only:
        limit = output_limit(common, len(prompt.ids), facts, default=None, prompt_field="messages")
    return GenerationRequest(
        chat=True,
        model=common.model,
        prompts=(Prompt(prompt.ids, limit),),
        sampling=_sampling(common.sampling, family, facts),
        # A call ends where its schema ends.
        stops=() if asked.demanded else common.stops,
        stream=common.stream,
        logprobs=logprobs,
        ignored=(
            *common.ignored,
            *unused,
            *chat_ignored(given, variables, family),
            *unkept,
            *(("stop",) if asked.demanded and common.stops else ()),
            *(("prediction",) if predicted is not None and not helps else ()),
        ),
        n=common.n,
        best_of=common.n,
        return_token_ids=common.return_token_ids,
        include_stop=common.include_stop,
        constraint=constraint,
        thinking=_thinking(reasoning, family.reasoning, prompt.text, constrained=constraint is not None),
        show_special=_shows_special(asked, family),
        shape=_shape(asked, family, prompt.text),
        isolation=common.isolation,
        perf=common.perf,
        prediction=await prediction_encode(predicted, text, facts) if predicted and helps else [],
    )


def chat_ignored(
    given: list[dict[str, Any]], variables: dict[str, Any], family: ChatFamily
) -> tuple[str, ...]:
    """What of the messages as they came, and of the template's variables, the template does not show."""
    nameless = names_given(given) and not family.template.shows_speakers
    unread = (name for name in variables if name not in family.template.names)
    return (
        *messages_ignored(given),
        *(("messages.name",) if nameless else ()),
        *(f"chat_template_kwargs.{name}" for name in unread),
    )


def chat_names(asked: ToolAsk, reasoning: ReasoningAsk, family: ChatFamily) -> dict[str, Any]:
    """What the template is told of the request's other fields, if it looks at them."""
    names: dict[str, Any] = {}
    if asked.given is not None and "tool_choice" in family.template.names:
        names["tool_choice"] = asked.given
    if family.reasoning and family.reasoning.switch and reasoning.field:
        names[family.reasoning.switch] = reasoning.budget != 0
    if family.reasons and reasoning.effort and "reasoning_effort" in family.template.names:
        names["reasoning_effort"] = reasoning.effort
    return names


def _sampling(sampling: Sampling, family: ChatFamily, facts: ModelFacts) -> Sampling:
    """With the tokens that end an answer in the model's format, where its configuration does not know them."""
    missing = (family.harmony.end_ids if family.harmony else frozenset()) - facts.eos_ids
    if sampling.ignore_eos or not missing:
        return sampling
    return replace(sampling, stop_token_ids=[*sampling.stop_token_ids, *sorted(missing)])


def _thinking(
    reasoning: ReasoningAsk, family: ReasoningFamily | None, prompt: str, *, constrained: bool
) -> Thinking | None:
    """What the core has to watch: a budget, or where the reasoning ends and a constraint begins."""
    if family is None or family.closed(prompt) or (reasoning.budget < 0 and not constrained):
        return None
    return Thinking(
        start_ids=list(family.start_ids),
        end_ids=list(family.end_ids),
        budget=reasoning.budget,
        open=family.opened(prompt),
    )


def _shape(asked: ToolAsk, family: ChatFamily, prompt: str) -> ChatShape | None:
    """How the answer is cut up; None when it can be nothing but content."""
    tools = family.tools if asked.active else None
    if tools is None and not family.reasons:
        return None
    return ChatShape(
        reasoning=family.reasoning,
        opened=family.reasoning is not None and family.reasoning.opened(prompt),
        tools=tools,
        offered={tool.name: tool.parameters for tool in asked.tools} if asked.active else {},
        functions=asked.functions,
        harmony=family.harmony,
    )


def _shows_special(asked: ToolAsk, family: ChatFamily) -> bool:
    tools = asked.active and family.tools is not None and family.tools.shows_special
    return tools or (family.reasoning is not None and family.reasoning.shows_special)


def _logprobs(fields: Fields) -> int:
    """`logprobs` true with `top_logprobs`, or the older form where `logprobs` is the number itself."""
    wanted = fields.take("logprobs")
    top = fields.integer("top_logprobs", low=0, high=MAX_TOP_LOGPROBS)
    if isinstance(wanted, int) and not isinstance(wanted, bool):
        wanted_top = fields.integer("logprobs", low=0, high=MAX_LOGPROBS_OLD_FORM)
        return (wanted_top or 0) if top is None else top
    if fields.boolean("logprobs"):
        return top or 0
    if top:
        raise invalid_value("top_logprobs", "top_logprobs needs logprobs to be true.")
    return -1
