"""What a request costs: pure integer arithmetic over its token counts and a price version."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Price:
    """Pico-dollars per token of prompt, of prompt found in the cache, and of output."""

    input: int
    cached_input: int
    output: int


def event_cost_picousd(
    price: Price, *, prompt_tokens: int, cached_tokens: int, completion_tokens: int
) -> int:
    """Cost of one request in pico-dollars; `cached_tokens` are part of `prompt_tokens`.

    Raises:
        ValueError: a count is negative, or more is cached than was sent.
    """
    if min(prompt_tokens, cached_tokens, completion_tokens) < 0 or cached_tokens > prompt_tokens:
        raise ValueError("token counts must not be negative, and no more can be cached than was sent")
    fresh = prompt_tokens - cached_tokens
    return fresh * price.input + cached_tokens * price.cached_input + completion_tokens * price.output
