"""A step that was launched and may still be running."""

from collections.abc import Sequence
from itertools import islice
from typing import Protocol

import torch

from kindling_engine.runner.transfer import Arrival
from kindling_engine.sampling.prompt_scores import PromptScores
from kindling_engine.sampling.sampler import Draw
from kindling_engine.scheduler.plan import ScheduledRow, StepPlan


class Drawn(Protocol):
    """Draws on their way to the host."""

    def draws(self) -> list[Draw]:
        """Once they have arrived: those of the rows they were launched for, in order."""


class LaunchedStep:
    """Its results, to be asked for once."""

    def __init__(
        self,
        plan: StepPlan,
        rows: Sequence[ScheduledRow],
        drawn: Drawn | None,
        scores: Sequence[PromptScores] = (),
        *,
        device: torch.device,
        holds: object = None,
    ) -> None:
        """``rows`` are those that were drawn for, in their order on the device; ``holds`` lives as long as the step."""
        self._plan = plan
        self._rows = rows
        self._drawn = drawn
        self._scores = scores
        self._holds = holds
        self._arrival = Arrival(device)

    def draws(self) -> list[Draw]:
        """Wait for the step; a row's draws together, rows in the plan's order."""
        self._arrival.wait()
        self._holds = None
        for scores in self._scores:
            scores.settle()
        if self._drawn is None:
            return []
        draws = iter(self._drawn.draws())
        found = {row.request.id: list(islice(draws, row.draws)) for row in self._rows}
        return [draw for row in self._plan.rows if row.samples for draw in found[row.request.id]]
