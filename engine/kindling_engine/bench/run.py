"""What one engine did under one load."""

from dataclasses import asdict, dataclass, field
from typing import Any


def outputs_of(prompts: list[list[int]], output: int | list[int]) -> list[int]:
    """Tokens to make for each prompt; a single number is everybody's."""
    return [output] * len(prompts) if isinstance(output, int) else output


@dataclass(slots=True)
class Run:
    """One load from its start to its last token; times in seconds.

    ``first_s`` is when each request's first token was there; ``decode_s`` and ``decode_tokens`` cover what came
    after the last first token. Empty and 0 where an engine does not tell.
    """

    wall_s: float
    tokens: int
    cpu_s: float = 0.0
    first_s: list[float] = field(default_factory=list)
    decode_s: float = 0.0
    decode_tokens: int = 0

    @property
    def tok_s(self) -> float:
        return self.tokens / self.wall_s

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)
