"""From outcomes to messages."""

import time

from kindling_engine.protocol.ipc import StepItem
from kindling_engine.protocol.sampling import TokenLogprobs
from kindling_engine.runner.runner import RunnerPayload
from kindling_engine.sampling.sampler import Logprobs
from kindling_engine.scheduler.plan import Outcome


def step_item(outcome: Outcome, logprobs: Logprobs | None = None) -> StepItem:
    """One request's part of a Step message."""
    request = outcome.request
    admitted_s = time.monotonic() if request.admitted_s is None else request.admitted_s
    return StepItem(
        id=request.id,
        token_ids=[] if outcome.token is None else [outcome.token],
        logprobs=None if logprobs is None else [_token_logprobs(logprobs)],
        finish=outcome.finish,
        error_code=outcome.error_code,
        error=outcome.error,
        prompt_tokens=0 if request.admitted_s is None else request.prompt_len,
        cached_tokens=request.cached_tokens,
        queue_ms=max(0.0, (admitted_s - request.arrived_s) * 1000),
        adapter_ms=-1.0 if request.adapter_wait_s is None else request.adapter_wait_s * 1000,
        parked=outcome.parked,
        prompt_logprobs=_prompt_logprobs(outcome),
        drafted=request.drafted,
        guessed=request.guessed,
    )


def step_items_join(first: StepItem, more: StepItem) -> StepItem:
    """Several tokens that one step made for a request, as one part."""
    more.token_ids = first.token_ids + more.token_ids
    if first.logprobs is not None:
        more.logprobs = first.logprobs + (more.logprobs or [])
    more.prompt_logprobs = first.prompt_logprobs or more.prompt_logprobs
    return more


def _prompt_logprobs(outcome: Outcome) -> list[TokenLogprobs | None] | None:
    """The prompt's scores, once: with the first token."""
    ticket = outcome.request.payload
    if not isinstance(ticket, RunnerPayload) or ticket.prompt_scores is None or outcome.token is None:
        return None
    scores, ticket.prompt_scores = ticket.prompt_scores, None
    return [None if one is None else _token_logprobs(one) for one in scores.values]


def _token_logprobs(logprobs: Logprobs) -> TokenLogprobs:
    return TokenLogprobs(
        logprob=logprobs.logprob, top=list(zip(logprobs.top_ids, logprobs.top_logprobs, strict=True))
    )
