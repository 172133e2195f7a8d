"""What the core remembers of a request beyond what scheduler and runner need."""

from collections.abc import Callable
from dataclasses import dataclass

from kindling_engine.runner.runner import RunnerPayload
from kindling_engine.scheduler.plan import Outcome


@dataclass(slots=True, eq=False)
class RequestTicket(RunnerPayload):
    """Payload of every request in the core.

    ``on_outcome`` takes the outcomes of a request that the core made for itself; the front never hears of
    those.
    """

    on_outcome: Callable[[Outcome], None] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class LoadTicket:
    """A LoadAdapter message that waits for its adapter."""

    id: str
    adapter: str
    check: bool
