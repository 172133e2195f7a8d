"""How a request wants its tokens, and what it is told of each. Plain dataclasses: the offline engine has no wire."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the next token is chosen; temperature 0 is greedy, top_k 0 and top_p 1 are off."""

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    seed: int | None = None
    repetition_penalty: float = 1.0
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    logit_bias: dict[int, float] = field(default_factory=dict)
    ignore_eos: bool = False
    min_tokens: int = 0
    typical_p: float = 1.0
    stop_token_ids: list[int] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Constraint:
    """What the answer's text must match. kind: json_object | json_schema | regex | lark; text is the schema as
    JSON, the expression, or the grammar; empty for json_object.
    """

    kind: str
    text: str = ""


@dataclass(frozen=True, slots=True)
class Thinking:
    """Reasoning in front of the answer, closed by `end_ids`; `open` when the prompt has opened it already.

    After `budget` tokens of reasoning the end is forced; −1 sets no bound.
    """

    start_ids: list[int]
    end_ids: list[int]
    budget: int = -1
    open: bool = True


@dataclass(frozen=True, slots=True)
class TokenLogprobs:
    """Natural-log probability of the chosen token, and of the best alternatives as (token id, logprob)."""

    logprob: float
    top: list[tuple[int, float]] = field(default_factory=list)
