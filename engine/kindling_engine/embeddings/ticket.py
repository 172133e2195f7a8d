"""A text that waits for its vector, as a request of the scheduler."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from kindling_engine.core.tickets import RequestTicket
from kindling_engine.sampling.params import SamplingParams
from kindling_engine.scheduler.plan import Outcome
from kindling_engine.scheduler.request import Request


@dataclass(slots=True, eq=False)
class EmbedTicket(RequestTicket):
    """Payload of a text to embed; the runner leaves ``vector [hidden]`` in fp32, not normalised."""

    params: SamplingParams = field(default_factory=SamplingParams)
    vector: NDArray[np.float32] | None = None

    def tell(self, outcome: Outcome) -> None:
        """Pass an outcome to whom the text belongs."""
        if self.on_outcome is not None:
            self.on_outcome(outcome)


def embed_request(
    request_id: str,
    tokens: Sequence[int],
    *,
    now_s: float,
    on_outcome: Callable[[Outcome], None],
    salt: str = "",
    tenant: str = "",
    priority: int = 0,
    weight: float = 1.0,
) -> Request:
    """A request that ends as soon as all of its tokens are computed."""
    return Request(
        id=request_id,
        tokens=list(tokens),
        # The scheduler's plans look ahead by what a request may still make: one result, which is no token.
        max_tokens=1,
        grant=1,
        salt=salt,
        tenant=tenant,
        priority=priority,
        weight=weight,
        embeds=True,
        arrived_s=now_s,
        payload=EmbedTicket(on_outcome=on_outcome),
    )


def ticket_of(request: Request) -> EmbedTicket:
    """The request's ticket."""
    if not isinstance(request.payload, EmbedTicket):
        raise TypeError(f"request {request.id} is not one to embed")
    return request.payload
