"""From a chat completion's body to what the core is asked for."""

from kindling_engine.server.errors import invalid_value
from kindling_engine.server.fields import Fields
from kindling_engine.server.messages import messages_read
from kindling_engine.server.model_text import ModelText
from kindling_engine.server.request_common import (
    GenerationRequest,
    ModelFacts,
    Prompt,
    body_object,
    output_limit,
    prompt_encode,
)
from kindling_engine.server.response_format import constraint_check, response_format_read
from kindling_engine.server.sampling_fields import common_fields_read
from kindling_engine.server.template_files import no_template
from kindling_engine.server.template_process import template_process

MAX_TOP_LOGPROBS = 20
MAX_LOGPROBS_OLD_FORM = 5


async def chat_body_read(raw: bytes, text: ModelText, facts: ModelFacts) -> GenerationRequest:
    """Read a chat completion's body. Errors: 400 ones only."""
    fields = Fields(await body_object(raw))
    common = common_fields_read(fields, vocab_size=facts.vocab_size)
    messages = messages_read(fields.need("messages"))
    logprobs = _logprobs(fields)
    constraint = response_format_read(fields)
    fields.only("tools", [])
    fields.only("tool_choice", "none", "auto")
    fields.only("functions", [])
    fields.only("function_call", "none", "auto")
    fields.only("parallel_tool_calls", True, False)  # says nothing without tools
    fields.only("modalities", ["text"])
    fields.end()
    await constraint_check(constraint, fields)
    if text.templates is None:
        raise no_template()
    prompt = await template_process().render(text.templates.default, messages)
    ids = await prompt_encode(text, prompt, "messages", facts, add_special_tokens=False)
    return GenerationRequest(
        chat=True,
        model=common.model,
        prompts=(Prompt(ids, output_limit(common, len(ids), facts, default=None, prompt_field="messages")),),
        sampling=common.sampling,
        stops=common.stops,
        stream=common.stream,
        logprobs=logprobs,
        ignored=common.ignored,
        n=common.n,
        best_of=common.n,
        return_token_ids=common.return_token_ids,
        include_stop=common.include_stop,
        constraint=constraint,
    )


def _logprobs(fields: Fields) -> int:
    """`logprobs` true with `top_logprobs`, or the older form where `logprobs` is the number itself."""
    wanted = fields.take("logprobs")
    top = fields.integer("top_logprobs", low=0, high=MAX_TOP_LOGPROBS)
    if isinstance(wanted, int) and not isinstance(wanted, bool):
        wanted_top = fields.integer("logprobs", low=0, high=MAX_LOGPROBS_OLD_FORM)
        return (wanted_top or 0) if top is None else top
    if fields.boolean("logprobs"):
        return top or 0
    if top is not None:
        raise invalid_value("top_logprobs", "top_logprobs needs logprobs to be true.")
    return -1
