"""From a Submit message to a request, with everything refused that would hurt the step loop."""

import math
import os

from kindling_engine.core.submission import Submission
from kindling_engine.core.tickets import RequestTicket
from kindling_engine.models.base import ModelConfig
from kindling_engine.protocol.sampling import Sampling
from kindling_engine.sampling.params import SamplingParams
from kindling_engine.sampling.prompt_scores import PromptScores
from kindling_engine.scheduler.request import Request
from kindling_engine.speculation.speculator import RequestDrafting

MAX_LOGPROBS = 20
MIN_WEIGHT, MAX_WEIGHT = 0.01, 100.0
_BIAS_LIMIT = 1000.0


class IntakeError(Exception):
    """A value that the front should have refused."""


def request_make(message: Submission, config: ModelConfig, now_s: float) -> Request:
    """Build a request; raises IntakeError. Token ids outside the vocabulary would fault inside a kernel."""
    if message.prompt_ids and not 0 <= min(message.prompt_ids) <= max(message.prompt_ids) < config.vocab_size:
        raise IntakeError(f"prompt_ids must lie between 0 and {config.vocab_size - 1}.")
    if not all(-1 <= count <= MAX_LOGPROBS for count in (message.logprobs, message.prompt_logprobs)):
        raise IntakeError(f"logprobs and prompt_logprobs must be at most {MAX_LOGPROBS}.")
    sampling = message.sampling
    params = _params(sampling, message.logprobs, config)
    return Request(
        id=message.id,
        tokens=list(message.prompt_ids),
        max_tokens=message.max_tokens,
        grant=message.grant,
        adapter=message.adapter,
        salt=message.salt,
        tenant=message.tenant,
        priority=message.priority,
        weight=weight_check(message.weight),
        stop_ids=_stop_ids(sampling, config),
        min_tokens=sampling.min_tokens,
        uncached=message.prompt_logprobs >= 0,
        arrived_s=now_s,
        payload=RequestTicket(params=params, prompt_scores=_prompt_scores(message, config)),
        drafting=_drafting(message, params, config),
    )


def _drafting(message: Submission, params: SamplingParams, config: ModelConfig) -> RequestDrafting | None:
    """None where what may be drawn at a place depends on the tokens before it by more than model and constraint."""
    if params.has_penalties:
        return None
    return RequestDrafting([token for token in message.prediction_ids if 0 <= token < config.vocab_size])


def _prompt_scores(message: Submission, config: ModelConfig) -> PromptScores | None:
    if message.prompt_logprobs < 0:
        return None
    return PromptScores(
        prompt_len=len(message.prompt_ids), count=message.prompt_logprobs, vocab_size=config.vocab_size
    )


def weight_check(weight: float) -> float:
    """A tenant's share. Raises IntakeError."""
    if not MIN_WEIGHT <= weight <= MAX_WEIGHT:
        raise IntakeError(f"weight must lie between {MIN_WEIGHT:g} and {MAX_WEIGHT:g}.")
    return weight


def _stop_ids(sampling: Sampling, config: ModelConfig) -> frozenset[int]:
    for token in sampling.stop_token_ids:
        if not 0 <= token < config.vocab_size:
            raise IntakeError(f"stop_token_ids names token {token}, which the model does not have.")
    wanted = frozenset(sampling.stop_token_ids)
    return wanted if sampling.ignore_eos else wanted | frozenset(config.eos_ids)


def _params(sampling: Sampling, logprobs: int, config: ModelConfig) -> SamplingParams:
    numbers = {
        "temperature": (sampling.temperature, 0.0, 100.0),
        "top_p": (sampling.top_p, 0.0, 1.0),
        "min_p": (sampling.min_p, 0.0, 1.0),
        "typical_p": (sampling.typical_p, 0.0, 1.0),
        "repetition_penalty": (sampling.repetition_penalty, 1e-3, 1e3),
        "frequency_penalty": (sampling.frequency_penalty, -1e3, 1e3),
        "presence_penalty": (sampling.presence_penalty, -1e3, 1e3),
        "top_k": (sampling.top_k, -1, 1 << 31),
        "min_tokens": (sampling.min_tokens, 0, 1 << 31),
    }
    for name, (value, low, high) in numbers.items():
        if not (math.isfinite(value) and low <= value <= high):
            raise IntakeError(f"{name} must lie between {low:g} and {high:g}.")
    for token, bias in sampling.logit_bias.items():
        if not 0 <= token < config.vocab_size:
            raise IntakeError(f"logit_bias names token {token}, which the model does not have.")
        if not (math.isfinite(bias) and abs(bias) <= _BIAS_LIMIT):
            raise IntakeError("logit_bias values must be finite and moderate.")
    return SamplingParams(
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        top_k=max(0, sampling.top_k),
        min_p=sampling.min_p,
        typical_p=sampling.typical_p,
        seed=int.from_bytes(os.urandom(8), "little") if sampling.seed is None else sampling.seed,
        repetition_penalty=sampling.repetition_penalty,
        frequency_penalty=sampling.frequency_penalty,
        presence_penalty=sampling.presence_penalty,
        logit_bias=dict(sampling.logit_bias),
        min_tokens=sampling.min_tokens,
        logprobs=logprobs,
    )
