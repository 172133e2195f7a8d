"""A pretended device that runs behind the host: it executes a step when the step is booked, and knows its own tokens.

What a step reads and writes was fixed when it was launched, so a block that goes to somebody else meanwhile is seen.
"""

from dataclasses import dataclass, field

from kindling_engine.core.overlapped import OverlappedLoop
from kindling_engine.kvcache.manager import PAGE_SIZE
from kindling_engine.sampling.sampler import Draw
from kindling_engine.scheduler.plan import Outcome, ScheduledRow, StepPlan
from kindling_engine.scheduler.request import Request
from kindling_schedules import Pretended, token_next


class Fault(BaseException):
    """Something that must never happen; no exception, since the loop survives those."""


@dataclass(slots=True, eq=False)
class LaunchedRow:
    """A row as a device sees it: tokens known at the launch and block numbers, copied."""

    row: ScheduledRow
    seat: object
    tokens: list[int]
    blocks: list[int]


@dataclass(slots=True, eq=False)
class LateStep:
    """A launched step; ``draws`` lets the device catch up with it."""

    runner: "LateRunner"
    plan: StepPlan
    rows: list[LaunchedRow]
    void: bool = False
    """A step before it failed, so that nothing it starts from is there."""

    def draws(self) -> list[Draw]:
        return self.runner.catch_up(self)


@dataclass
class LateRunner:
    """Keeps labels in slots, as ``Pretended`` does, and the last token of each seat."""

    world: Pretended
    bad: frozenset[str] = frozenset()
    fails_at_launch: str = ""
    fails_when_read: str = ""
    hopeless: bool = False
    """A failing row fails alone, too."""
    under_way: list[LateStep] = field(default_factory=list)
    drawn: dict[object, list[int]] = field(default_factory=dict)
    seats: dict[str, object] = field(default_factory=dict)

    def launch(self, plan: StepPlan) -> LateStep:
        for request_id in plan.released:
            self.seats.pop(request_id, None)
        self._fail(plan, self.fails_at_launch)
        step = LateStep(self, plan, [self._launched(row) for row in plan.rows])
        self._check_launch(step)
        self.under_way.append(step)
        return step

    def execute(self, plan: StepPlan) -> list[Draw]:
        return self.launch(plan).draws()

    def recover(self, plan: StepPlan) -> None:
        if self.world.states is not None:
            self.world.states.release(plan)
        for row in plan.rows:
            self.seats.pop(row.request.id, None)

    def catch_up(self, step: LateStep) -> list[Draw]:
        """Execute the oldest step, the only one whose results may be asked for."""
        check(step in self.under_way, "a step was asked for twice")
        check(step.void or self.under_way[0] is step, "results came out of order")
        self.under_way.remove(step)
        states = self.world.states
        if states is not None:
            states.release(step.plan)
        try:
            if step.void:
                raise RuntimeError("a step before this one failed")
            self._fail(step.plan, self.fails_when_read)
        except RuntimeError:
            if states is not None:
                states.spoil(step.plan)
            for later in self.under_way:
                later.void = True
            raise
        slots = self.world.slots
        for block in step.plan.scrub:
            for slot in range(block * PAGE_SIZE, (block + 1) * PAGE_SIZE):
                slots.pop(slot, None)
        for one in step.rows:
            tokens = self._tokens(one)
            if states is not None:
                check(states.advance(one.row, tokens), "the state of something else")
            for position in range(one.row.start, one.row.start + one.row.count):
                slots[_slot(one, position)] = _label(one.row.request, tokens, position)
        return [draw for one in step.rows if (draw := self._read(one)) is not None]

    def check_blocks(self) -> None:
        """What a step under way reads or writes belongs to somebody, whatever became of its requests."""
        for step in self.under_way:
            for one in step.rows:
                owned = all(self.world.kv.pool.refs(block) > 0 for block in one.blocks)
                check(owned, "a block was freed under a step")

    def _launched(self, row: ScheduledRow) -> LaunchedRow:
        request, stop = row.request, row.start + row.count
        check(
            not (request.waits_for_token and stop > len(request.tokens)), "a step did not wait for its token"
        )
        seat = self.seats.setdefault(request.id, object())
        blocks = request.table.blocks[: -(-stop // PAGE_SIZE)]
        return LaunchedRow(row, seat, list(request.tokens), list(blocks))

    def _fail(self, plan: StepPlan, request_id: str) -> None:
        if any(row.request.id == request_id for row in plan.rows) and (self.hopeless or len(plan.rows) > 1):
            raise RuntimeError("pretended")

    def _read(self, one: LaunchedRow) -> Draw | None:
        tokens = self._tokens(one)
        for position in range(len(tokens)):
            label = _label(one.row.request, tokens, position)
            check(self.world.slots.get(_slot(one, position)) == label, "a block holds something else")
        if not one.row.samples:
            return None
        token = token_next(tokens)
        self.drawn[one.seat] = [*tokens, token]
        return Draw(None if one.row.request.id in self.bad else token)

    def _check_launch(self, step: LateStep) -> None:
        written: set[int] = set()
        for one in step.rows:
            places = {_slot(one, p) for p in range(one.row.start, one.row.start + one.row.count)}
            check(not places & written, "two requests write to one slot")
            written |= places
        for earlier in self.under_way:
            for one in earlier.rows:
                touched = set(one.blocks[one.row.start // PAGE_SIZE :])
                for new in step.rows:
                    mixed = new.seat is not one.seat and touched & set(new.blocks)
                    check(not mixed, "a block went to another while a step writes to it")

    def _tokens(self, one: LaunchedRow) -> list[int]:
        """The tokens up to the row's last; the device drew the one that the host did not know."""
        stop = one.row.start + one.row.count
        if stop <= len(one.tokens):
            return one.tokens[:stop]
        drawn = self.drawn[one.seat]
        check(len(drawn) == stop and drawn[: len(one.tokens)] == one.tokens, "the host lost a token")
        return drawn


@dataclass
class Late(Pretended):
    """``Pretended``, its steps booked one late."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.runner = LateRunner(self)
        self.loop = OverlappedLoop(self.scheduler, self.runner, emit=self._emit, clock=lambda: self.now_s)

    def cancel(self, request_id: str) -> None:
        super().cancel(request_id)
        self.runner.check_blocks()

    def step(self, bad: frozenset[str] = frozenset()) -> StepPlan | None:
        """Launch a step, or two, and book one."""
        self.now_s += 0.01
        self.runner.bad = bad
        plan = self.loop.step(self.now_s)
        check(len(self.runner.under_way) <= 1, "more than one step is under way between turns")
        self.runner.check_blocks()
        if plan is not None:
            self.plans.append(plan)
        return plan

    def fail(self, request_id: str, *, launch: bool, hopeless: bool) -> None:
        """A step in which the steps with a request's row fail, at their launch or later."""
        runner = self.runner
        runner.fails_at_launch, runner.fails_when_read = (request_id, "") if launch else ("", request_id)
        runner.hopeless = hopeless
        self.step()
        runner.fails_at_launch = runner.fails_when_read = ""

    def _emit(self, outcome: Outcome, draw: Draw | None) -> None:
        del draw
        self.note(outcome)
        self.runner.check_blocks()


def check(holds: bool, message: str) -> None:
    if not holds:
        raise Fault(message)


def _slot(one: LaunchedRow, position: int) -> int:
    return one.blocks[position // PAGE_SIZE] * PAGE_SIZE + position % PAGE_SIZE


def _label(request: Request, tokens: list[int], position: int) -> tuple:
    return (request.adapter, request.salt, tuple(tokens[: position + 1]))
