"""Steps that overlap by one: the next one is planned and launched while the last one runs, and booked in its turn.

A device that works by itself never waits for the host then. The price is that a step's results are known one step
late: what was computed for a request that turns out to have ended is thrown away (``scheduler.flights``).
"""

import logging
import time
from collections import deque
from typing import Protocol

from kindling_engine.core.steps import Clock, Emit, Runner, StepLoop
from kindling_engine.sampling.sampler import Draw
from kindling_engine.scheduler.plan import StepPlan
from kindling_engine.scheduler.request import RequestState
from kindling_engine.scheduler.scheduler import Scheduler

logger = logging.getLogger(__name__)


class StepUnderWay(Protocol):
    """A launched step."""

    def draws(self) -> list[Draw]:
        """Wait for it: one draw per sampling row, in the plan's order."""


class LaunchingRunner(Runner, Protocol):
    """A runner whose steps can be launched without waiting for them."""

    def launch(self, plan: StepPlan) -> StepUnderWay:
        """Start a step behind those launched before. Tokens that they draw need not be known on the host."""


class OverlappedLoop(StepLoop):
    """A step loop with one step under way while the next is planned."""

    def __init__(
        self, scheduler: Scheduler, runner: LaunchingRunner, *, emit: Emit, clock: Clock = time.monotonic
    ) -> None:
        super().__init__(scheduler, runner, emit=emit, clock=clock)
        self._launcher = runner
        self._under_way: deque[tuple[StepPlan, StepUnderWay]] = deque()

    def step(self, now_s: float) -> StepPlan | None:
        """Launch what can be launched, book the oldest step and return its plan; None when nothing can run."""
        if not self._under_way:
            failed = self._launch(now_s)
            if failed is not None or not self._under_way:
                return failed
        oldest = self._under_way[0][0]
        # A launch that fails books what was under way before it runs its rows one by one.
        self._launch(now_s)
        if self._under_way and self._under_way[0][0] is oldest:
            self._land()
        return oldest

    def _launch(self, now_s: float) -> StepPlan | None:
        """Plan a step and start it; gives its plan back if that failed."""
        plan = self.scheduler.plan(now_s)
        if plan is None:
            return None
        launched = self._start(plan)
        if launched is None:
            while self._under_way:
                self._land()
            self._run_left(plan)
            return plan
        self.scheduler.launched(plan)
        self._under_way.append((plan, launched))
        return None

    def _start(self, plan: StepPlan) -> StepUnderWay | None:
        """None if it failed; as with ``_execute``, the error is gone by then."""
        try:
            return self._launcher.launch(plan)
        except Exception:
            logger.exception("a step of %d rows could not be launched", len(plan.rows))
            return None

    def _land(self) -> None:
        plan, launched = self._under_way.popleft()
        draws = None
        try:
            draws = launched.draws()
        except Exception:
            logger.exception("a step of %d rows failed", len(plan.rows))
        if draws is None:
            del launched
            self._withdraw_later()
            self.scheduler.withdraw(plan)
            self._run_left(plan)
        else:
            self._commit(plan, draws)

    def _withdraw_later(self) -> None:
        """Take back the steps that were launched on top of one that failed; their rows are planned again."""
        while self._under_way:
            plan, launched = self._under_way.pop()
            try:
                launched.draws()  # Nothing may run any more when its blocks are given back.
            except Exception:
                logger.exception("a step on top of a failed one failed, too")
            self._recover(plan)
            self.scheduler.withdraw(plan)

    def _run_left(self, plan: StepPlan) -> None:
        """Run the rows of a failed step one by one, but for those of requests that have ended meanwhile."""
        rows = tuple(
            row
            for row in plan.rows
            if row.request.state is RequestState.RUNNING and row.request.computed == row.start
        )
        self._run_apart(plan, rows)
