"""What usage costs: pure integer arithmetic over counts and a price version, with the lines that explain it."""

from dataclasses import dataclass, replace
from typing import NamedTuple

from kindling_billing.money import round_half_even

PROMPT, CACHED, REASONING, OUTPUT, GPU = "prompt", "cached", "reasoning", "output", "gpu_ms"
BATCH = "batch_"


@dataclass(frozen=True, slots=True)
class Price:
    """Pico-dollars per token of prompt, of prompt found in the cache, and of output, and per millisecond of a GPU.

    Reasoning tokens cost what output costs unless they have a price; `batch_percent` is the part that batch work pays.
    """

    input: int
    cached_input: int
    output: int
    reasoning: int | None = None
    gpu_ms: int = 0
    batch_percent: int = 50

    @property
    def dearest_output(self) -> int:
        """What a token made costs at most; until it is made nobody knows whether it is reasoning."""
        return self.output if self.reasoning is None else max(self.output, self.reasoning)

    def of(self, unit: str, *, batch: bool = False) -> int:
        """The price of one unit; in a batch rounded half to even, once, so that a line is quantity × price."""
        if unit == PROMPT:
            full = self.input
        elif unit == CACHED:
            full = self.cached_input
        elif unit == GPU:
            full = self.gpu_ms
        elif unit == REASONING and self.reasoning is not None:
            full = self.reasoning
        else:
            full = self.output
        return round_half_even(full * self.batch_percent, 100) if batch else full

    def for_batch(self) -> "Price":
        """What batch work pays, as prices of their own: rating at them gives what `usage_rate` gives for a batch."""
        return replace(
            self,
            input=self.of(PROMPT, batch=True),
            cached_input=self.of(CACHED, batch=True),
            output=self.of(OUTPUT, batch=True),
            reasoning=None if self.reasoning is None else self.of(REASONING, batch=True),
            gpu_ms=self.of(GPU, batch=True),
            batch_percent=100,
        )


# Made by the million, and a tuple is made in a third of a dataclass's time.
class Used(NamedTuple):
    """What one event used: cached tokens are part of the prompt's, reasoning tokens of the completion's."""

    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    reasoning_tokens: int = 0
    gpu_ms: int = 0
    batch: bool = False


class Line(NamedTuple):
    """One reason for a cost: so many units at a price each. Together the lines are the cost, to the unit."""

    unit: str
    quantity: int
    unit_price_picousd: int

    @property
    def amount_picousd(self) -> int:
        return self.quantity * self.unit_price_picousd


def usage_rate(price: Price, used: Used) -> tuple[Line, ...]:
    """The lines of one event; units that were not used have none.

    Raises:
        ValueError: a count is negative, or a part is larger than its whole.
    """
    _check(used.prompt_tokens, used.cached_tokens, used.completion_tokens, used.reasoning_tokens)
    if used.gpu_ms < 0:
        raise ValueError("no time is negative")
    lines = []
    for unit, count in (
        (PROMPT, used.prompt_tokens - used.cached_tokens),
        (CACHED, used.cached_tokens),
        (REASONING, used.reasoning_tokens),
        (OUTPUT, used.completion_tokens - used.reasoning_tokens),
        (GPU, used.gpu_ms),
    ):
        if count and used.batch:
            lines.append(Line(BATCH + unit, count, price.of(unit, batch=True)))
        elif count:
            lines.append(Line(unit, count, price.of(unit)))
    return tuple(lines)


def event_cost_picousd(
    price: Price, *, prompt_tokens: int, cached_tokens: int, completion_tokens: int, reasoning_tokens: int = 0
) -> int:
    """Cost of one request in pico-dollars; cached tokens are part of the prompt's, reasoning of the completion's.

    Raises:
        ValueError: a count is negative, or a part is larger than its whole.
    """
    _check(prompt_tokens, cached_tokens, completion_tokens, reasoning_tokens)
    fresh, spoken = prompt_tokens - cached_tokens, completion_tokens - reasoning_tokens
    thought = reasoning_tokens * price.of(REASONING) if reasoning_tokens else 0
    return fresh * price.input + cached_tokens * price.cached_input + thought + spoken * price.output


def _check(prompt_tokens: int, cached_tokens: int, completion_tokens: int, reasoning_tokens: int) -> None:
    if min(prompt_tokens, cached_tokens, completion_tokens, reasoning_tokens) < 0:
        raise ValueError("token counts must not be negative")
    if cached_tokens > prompt_tokens or reasoning_tokens > completion_tokens:
        raise ValueError(
            "token counts contradict: no more can be cached than was sent, nor be reasoning than was made"
        )
