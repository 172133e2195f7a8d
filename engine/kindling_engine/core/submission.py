"""What a request is made from, whether it came over the socket or from the same process."""

from typing import Protocol

from kindling_engine.protocol.sampling import Constraint, Sampling, Thinking


class Submission(Protocol):
    """The fields of ``protocol.ipc.Submit``; here apart from it, so that the offline engine needs no wire."""

    id: str
    prompt_ids: list[int]
    adapter: str
    salt: str
    tenant: str
    priority: int
    weight: float
    max_tokens: int
    grant: int
    sampling: Sampling
    logprobs: int
    prompt_logprobs: int
    constraint: Constraint | None
    thinking: Thinking | None
    prediction_ids: list[int]
