"""First tokens after loading: they prove that the model runs, and measure how fast it reads a prompt."""

import time

from kindling_engine.core.tickets import RequestTicket
from kindling_engine.embeddings.ticket import embed_request, ticket_of
from kindling_engine.sampling.params import SamplingParams
from kindling_engine.scheduler.request import Request

PROMPT_TOKENS = 64
# A step should not hold decoding neighbours up for longer than a reader notices.
_STEP_TARGET_S = 0.25
_MIN_STEP_TOKENS = 64
_MIXED_PROMPTS = (2, 4, 8, 16, 32, 64, 128, 256)
_FIRST_OF_MIXTURE = 2
# One greedy and one filtered draw, so that neither path is met first by a customer.
_PARAMS = (SamplingParams(temperature=0.0), SamplingParams(temperature=0.8, top_p=0.9, seed=1))


def warm_up_request(
    index: int, *, vocab_size: int, max_length: int, prompt_tokens: int = PROMPT_TOKENS, new_tokens: int = 2
) -> Request:
    """A request that prefills and decodes; its own salt keeps it from meeting cached blocks."""
    count = max(1, min(prompt_tokens, max_length - new_tokens))
    return Request(
        id=f"warm-up/{index}",
        tokens=[token % vocab_size for token in range(1, count + 1)],
        max_tokens=new_tokens,
        grant=new_tokens,
        salt=f"warm-up/{index}",
        arrived_s=time.monotonic(),
        payload=RequestTicket(_PARAMS[index % len(_PARAMS)], on_outcome=lambda outcome: None),
    )


def warm_up_mixture(*, vocab_size: int, max_length: int, step_tokens: int) -> list[Request]:
    """Requests that are to come one a step, so that each prompt is read beside the decodes of those before it.

    A GPU's kernels are compiled for tiles by the longest prompt of a step, and for classes of a step's size. A lone
    prompt meets one of each; the others would be compiled in the midst of serving, predicted at a second or more each,
    which Triton keeps for the next start. Left for then are steps of more than 32 prompts, and prompts with adapters.
    """
    lengths = [length for length in _MIXED_PROMPTS if length < step_tokens]
    return [
        warm_up_request(
            _FIRST_OF_MIXTURE + index,
            vocab_size=vocab_size,
            max_length=max_length,
            prompt_tokens=length,
            new_tokens=len(lengths) + 2,
        )
        for index, length in enumerate([*lengths, step_tokens])
    ]


def warm_up_text(index: int, *, vocab_size: int, max_length: int) -> Request:
    """The same for a model that embeds."""
    count = max(1, min(PROMPT_TOKENS, max_length))
    return embed_request(
        f"warm-up/{index}",
        [token % vocab_size for token in range(1, count + 1)],
        now_s=time.monotonic(),
        on_outcome=lambda outcome: None,
        salt=f"warm-up/{index}",
    )


def warmed_up(request: Request) -> bool:
    """Whether the model made what a warm-up request is for."""
    return ticket_of(request).vector is not None if request.embeds else request.made > 0


def step_tokens_for(prefill_s: float, prompt_tokens: int, limit: int) -> int:
    """Prompt tokens per step that keep a step near its target time, given one measured prefill."""
    affordable = int(prompt_tokens * _STEP_TARGET_S / max(prefill_s, 1e-6))
    return min(limit, max(_MIN_STEP_TOKENS, affordable))
