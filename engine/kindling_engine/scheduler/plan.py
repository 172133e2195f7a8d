"""What the scheduler tells the runner, and what it tells the core after a step."""

from dataclasses import dataclass
from typing import Literal

from kindling_engine.kvcache.states import NO_MOVES, StateMoves
from kindling_engine.scheduler.request import Request

Finish = Literal["", "stop", "length", "cancelled", "grant_refused", "error"]


@dataclass(frozen=True, slots=True)
class ScheduledRow:
    """Compute ``count`` tokens of a request, from position ``start`` on.

    ``samples`` is true when the last of them is the last there is, so that the next one can be drawn. A step that is
    planned ahead may start at a token which the step before it is still drawing. ``draft`` are the last of the
    ``count`` where they are guesses; a token is drawn behind each of them too. ``states`` says what else is to be done
    for a model whose layers have a state.
    """

    request: Request
    start: int
    count: int
    samples: bool
    draft: tuple[int, ...] = ()
    states: StateMoves = NO_MOVES

    @property
    def draws(self) -> int:
        """Tokens that are drawn."""
        return len(self.draft) + 1 if self.samples else 0

    @property
    def decodes(self) -> bool:
        """Whether it goes on by single tokens, known or guessed; else it is a chunk of a prompt."""
        return self.count == 1 or bool(self.draft)


@dataclass(frozen=True, slots=True)
class StepPlan:
    """One step: decodes first, then prefill chunks; never empty.

    ``released`` names requests that ended or lost their blocks since the last plan: state kept for them is
    void. ``scrub`` lists blocks to zero before anything is written.
    """

    rows: tuple[ScheduledRow, ...]
    released: tuple[str, ...]
    scrub: tuple[int, ...]
    num_tokens: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """News of one request: a token, its end, or both. ``token`` is None when the step made none."""

    request: Request
    token: int | None
    finish: Finish = ""
    parked: bool = False
    error_code: str = ""
    error: str = ""
