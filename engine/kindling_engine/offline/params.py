"""What a caller of the offline engine may ask for, and what comes back."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from kindling_engine.protocol.sampling import Constraint, Sampling, Thinking, TokenLogprobs


@dataclass(frozen=True, slots=True)
class SamplingParams(Sampling):
    """``Sampling``, and when to stop and what to tell.

    ``stop`` strings, or one, are cut off unless ``include_stop``. ``logprobs`` is how many alternatives to report
    beside each token, −1 for nothing at all. Without a ``seed`` every run draws anew. ``prediction``, a text or its
    token ids, is what the answer may become in good part: the more of it comes true, the sooner the answer is there.
    """

    max_tokens: int = 256
    stop: str | Sequence[str] = ()
    include_stop: bool = False
    logprobs: int = -1
    constraint: Constraint | None = None
    thinking: Thinking | None = None
    prediction: str | Sequence[int] = ()

    def __post_init__(self) -> None:
        if isinstance(self.stop, str):
            # A text is a sequence of texts, too.
            object.__setattr__(self, "stop", (self.stop,))
        if "" in self.stop:
            raise ValueError("A stop string must not be empty.")


@dataclass(frozen=True, slots=True)
class Completion:
    """One answer. ``finish`` is stop, length or error; ``error`` then says why there is no answer.

    ``token_ids`` are all tokens made, an end token among them. ``logprobs`` has an entry for each of them.
    ``cached_tokens`` of the prompt's tokens came out of the prefix cache.
    """

    text: str
    token_ids: list[int]
    finish: str
    prompt_tokens: int
    cached_tokens: int
    logprobs: list[TokenLogprobs] | None = None
    error: str = ""


@dataclass(slots=True)
class Timing:
    """Where the time of one run went, in seconds; a step with any prompt token counts as prefill.

    ``first_token_s`` has the time from the run's start to the first token of every prompt, NaN where none came.
    ``prefill_tokens`` were computed, cached ones left out; ``decode_tokens`` came out of pure decode steps.
    """

    wall_s: float = 0.0
    prefill_s: float = 0.0
    decode_s: float = 0.0
    prefill_tokens: int = 0
    decode_tokens: int = 0
    output_tokens: int = 0
    steps: int = 0
    first_token_s: list[float] = field(default_factory=list)


@dataclass(slots=True)
class LocalSubmission:
    """A request of this process, in the form that the core takes requests in."""

    id: str
    prompt_ids: list[int]
    max_tokens: int
    grant: int
    sampling: Sampling
    logprobs: int
    adapter: str = ""
    salt: str = ""
    tenant: str = ""
    priority: int = 0
    weight: float = 1.0
    prompt_logprobs: int = -1
    constraint: Constraint | None = None
    thinking: Thinking | None = None
    prediction_ids: list[int] = field(default_factory=list)
