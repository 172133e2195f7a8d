"""One step after another: plan, execute, book. A step that fails ends only the rows at fault."""

import logging
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import islice
from typing import Protocol

from kindling_engine.core.constrained import constraint_advance, failed_draws_end
from kindling_engine.sampling.sampler import Draw
from kindling_engine.scheduler.plan import Outcome, ScheduledRow, StepPlan
from kindling_engine.scheduler.scheduler import Scheduler

logger = logging.getLogger(__name__)

FAILED_CODE = "engine_step_failed"
_FAILED = "The engine failed in a step."

Emit = Callable[[Outcome, Draw | None], None]
Clock = Callable[[], float]


class Runner(Protocol):
    """What executes a plan."""

    def execute(self, plan: StepPlan) -> list[Draw]:
        """As many draws as a row has, rows in the plan's order."""

    def recover(self, plan: StepPlan) -> None:
        """After a failure: make every row of the plan fit to run again, alone or with others."""


class StepLoop:
    """Scheduler and runner, turned by hand; ``emit`` gets every outcome, with the draw it came from.

    ``failures`` counts the steps since the last one in which any row succeeded.
    """

    def __init__(
        self, scheduler: Scheduler, runner: Runner, *, emit: Emit, clock: Clock = time.monotonic
    ) -> None:
        self.scheduler = scheduler
        self.failures = 0
        self._runner = runner
        self._emit = emit
        self._clock = clock

    def step(self, now_s: float) -> StepPlan | None:
        """Run one step and return its plan; None when nothing can run."""
        plan = self.scheduler.plan(now_s)
        if plan is None:
            return None
        began_s = time.perf_counter()
        draws = self._execute(plan, "a step of %d rows failed")
        if draws is None:
            self._run_apart(plan, plan.rows)
        else:
            drafter = self.scheduler.drafter
            if drafter is not None and all(row.decodes for row in plan.rows):
                drafter.timed(plan.num_tokens, time.perf_counter() - began_s)
            self._commit(plan, draws)
        return plan

    def _execute(self, plan: StepPlan, failed: str) -> list[Draw] | None:
        """A step's draws; None if it failed. By then the error is gone, whose frames hold what the step computed: what
        runs next may need that memory.
        """
        try:
            return self._runner.execute(plan)
        except Exception:
            logger.exception(failed, len(plan.rows))
            return None

    def _commit(self, plan: StepPlan, draws: list[Draw]) -> None:
        self.failures = 0
        drawn = iter(draws)
        draws_of = {row.request.id: list(islice(drawn, row.draws)) for row in plan.rows if row.samples}
        for outcome in failed_draws_end(
            self.scheduler, {one: first for one, (first, *_) in draws_of.items()}
        ):
            self._emit(outcome, None)
        waiting = {one: iter(its) for one, its in draws_of.items()}
        ended: set[str] = set()
        for outcome in self.scheduler.commit(
            plan, [None if draw.error else draw.token for draw in draws], self._clock()
        ):
            draw = next(waiting.get(outcome.request.id, iter(())), None)
            # A constraint may end a request at a token that others were booked behind.
            if outcome.request.id not in ended:
                told = constraint_advance(self.scheduler, outcome)
                if told.finish:
                    ended.add(told.request.id)
                self._emit(told, draw)

    def _run_apart(self, plan: StepPlan, rows: tuple[ScheduledRow, ...]) -> None:
        """Run ``rows`` of a failed step one by one, and without guesses. What a row writes, it writes again, to the
        same places.
        """
        self.failures += 1
        known = tuple(map(_guessless, rows))
        if not self._recover(plan) or (len(plan.rows) == 1 and known == rows):
            self._fail(rows)
            return
        for row in known:
            alone = replace(plan, rows=(row,), released=(), scrub=(), num_tokens=row.count)
            draws = self._execute(alone, "%d row failed alone, too")
            if draws is None:
                self._recover(alone)
                self._fail((row,))
            else:
                self._commit(alone, draws)

    def _recover(self, plan: StepPlan) -> bool:
        try:
            self._runner.recover(plan)
        except Exception:
            logger.exception("the rows of a failed step cannot be run again")
            return False
        return True

    def _fail(self, rows: tuple[ScheduledRow, ...]) -> None:
        for row in rows:
            outcome = self.scheduler.fail(row.request.id, FAILED_CODE, _FAILED)
            if outcome is not None:
                self._emit(outcome, None)


def _guessless(row: ScheduledRow) -> ScheduledRow:
    """The row by itself, of a request that is not guessed for any longer: a step may have failed for its guesses."""
    if not row.draft:
        return row
    row.request.drafting = None
    return replace(row, count=1, draft=())
