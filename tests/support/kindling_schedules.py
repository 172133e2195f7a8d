"""A scheduler with a pretended model: blocks hold labels instead of numbers, so that a wrong share is seen."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from kindling_engine.kvcache.manager import PAGE_SIZE, KvManager
from kindling_engine.scheduler.plan import Outcome, ScheduledRow, StepPlan
from kindling_engine.scheduler.request import Request
from kindling_engine.scheduler.scheduler import Scheduler


@dataclass
class Pretended:
    """Runs plans by writing, for every token, a label of all that its KV would depend on."""

    num_blocks: int = 12
    context_length: int = 96
    max_batch: int = 4
    step_tokens: int = 24
    drafter: "RandomDrafter | None" = None
    state_slots: int = 0
    finite: int = 0
    now_s: float = 0.0
    slots: dict[int, tuple] = field(default_factory=dict)
    ended: dict[str, Outcome] = field(default_factory=dict)
    made: dict[str, list[int]] = field(default_factory=dict)
    plans: list[StepPlan] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.kv = KvManager(
            num_blocks=self.num_blocks, revision="r", kv_dtype="f", state_slots=self.state_slots
        )
        self.states = PretendedStates() if self.state_slots else None
        self.scheduler = Scheduler(
            kv=self.kv,
            context_length=self.context_length,
            max_batch=self.max_batch,
            step_tokens=self.step_tokens,
            drafter=self.drafter,
        )

    def add(self, request: Request) -> Request:
        request.arrived_s = self.now_s
        self.note(self.scheduler.add(request, self.now_s))
        return request

    def cancel(self, request_id: str) -> None:
        self.note(self.scheduler.cancel(request_id))

    def note(self, outcome: Outcome | None) -> None:
        if outcome is None:
            return
        assert outcome.request.id not in self.ended, "news of a request that had ended"
        if outcome.token is not None:
            self.made.setdefault(outcome.request.id, []).append(outcome.token)
        if outcome.finish:
            self.ended[outcome.request.id] = outcome

    def step(self, bad: frozenset[str] = frozenset()) -> StepPlan | None:
        """One step; requests in ``bad`` get no finite logits, but for the first ``finite`` of a draft."""
        self.now_s += 0.01
        plan = self.scheduler.plan(self.now_s)
        if plan is None:
            return None
        self.plans.append(plan)
        assert plan.num_tokens == sum(row.count for row in plan.rows) <= self.scheduler.step_tokens
        assert len({row.request.id for row in plan.rows}) == len(plan.rows) <= self.max_batch
        for block in plan.scrub:
            for slot in range(block * PAGE_SIZE, (block + 1) * PAGE_SIZE):
                self.slots.pop(slot, None)
        if self.states is not None:
            self.states.release(plan)
            for row in plan.rows:
                known = self.states.advance(row, [*row.request.tokens, *row.draft])
                assert known, "the state of something else"
        written: set[int] = set()
        for row in plan.rows:
            for position in range(row.start, row.start + row.count):
                slot = self._slot(row.request, position)
                assert slot not in written, "two requests write to one slot"
                written.add(slot)
                self.slots[slot] = _label(row, position)
        for row in plan.rows:
            for position in range(row.start + row.count):
                slot = self._slot(row.request, position)
                assert self.slots.get(slot) == _label(row, position), "a block holds something else"
        tokens = [
            None if row.request.id in bad and place >= self.finite else _draw(row, place)
            for row in plan.rows
            for place in range(row.draws)
        ]
        for outcome in self.scheduler.commit(plan, tokens, self.now_s):
            self.note(outcome)
        return plan

    def drain(self, limit: int = 5000) -> None:
        for _ in range(limit):
            for outcome in self.scheduler.expire(self.now_s):
                self.note(outcome)
            if self.scheduler.has_work:
                assert self.step() is not None, "work is left, but nothing can run"
            elif self.scheduler.next_deadline_s() is None:
                return
            else:
                self.now_s += 1.0
        raise AssertionError("the schedule does not end")

    def assert_nothing_is_held(self) -> None:
        pool = self.kv.pool
        assert pool.free_count == pool.capacity
        assert all(pool.refs(block) == 0 for block in range(1, pool.capacity + 1))
        assert self.scheduler.active == self.scheduler.waiting == 0
        if self.kv.states is not None:
            slots = self.kv.states.slots
            assert slots.free_count + slots.known == slots.capacity
            for _ in range(slots.capacity):
                assert slots.take() is not None, "a state is read by nobody that is there"

    def _slot(self, request: Request, position: int) -> int:
        assert request.table is not None
        block = request.table.blocks[position // PAGE_SIZE]
        assert block != 0 and self.kv.pool.refs(block) > 0
        return block * PAGE_SIZE + position % PAGE_SIZE


class PretendedStates:
    """What layers keep of each request and, in slots, of prefixes: labels of all that it depends on."""

    def __init__(self) -> None:
        self.own: dict[str, tuple] = {}
        self.kept: dict[int, tuple | None] = {}

    def release(self, plan: StepPlan) -> None:
        for request_id in plan.released:
            self.own.pop(request_id, None)

    def advance(self, row: ScheduledRow, tokens: list[int]) -> bool:
        """Take in a row's tokens; whether they go on from the state that stands before them."""
        request, states, stop = row.request, row.states, row.start + row.count
        begun: tuple | None = _state(request, [])
        if states.source is not None:
            begun = self.kept.get(states.source)
        elif row.start:
            begun = self.own.get(request.id)
        for position, slot in states.keeps:
            self.kept[slot] = _state(request, tokens[:position]) if row.start < position <= stop else None
        self.own[request.id] = _state(request, tokens[:stop])
        return begun == _state(request, tokens[: row.start])

    def spoil(self, plan: StepPlan) -> None:
        """The step came to nothing, and left something of it where it was to keep states."""
        for row in plan.rows:
            self.kept |= {slot: None for _, slot in row.states.keeps}


def token_of(request: Request) -> int:
    """The pretended model: the next token depends on all tokens so far."""
    return token_next(request.tokens)


def token_next(tokens: list[int]) -> int:
    return 10 + (sum(tokens) * 31 + len(tokens)) % 50


def _label(row: ScheduledRow, position: int) -> tuple:
    request = row.request
    return (request.adapter, request.salt, (*request.tokens, *row.draft)[: position + 1])


def _state(request: Request, tokens: list[int]) -> tuple:
    return (request.adapter, request.salt, tuple(tokens))


def _draw(row: ScheduledRow, place: int) -> int:
    return token_next([*row.request.tokens, *row.draft[:place]])


class RandomDrafter:
    """Guesses of any length, some right from end to end, some at first and some not at all."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self.drafted = self.right = 0

    def draft(
        self, requests: Sequence[Request], room: Mapping[str, int], spare: int
    ) -> dict[str, tuple[int, ...]]:
        drafts = {}
        for request in requests:
            size = min(self._random.randrange(5), room[request.id], spare)
            if request.drafting is None or not size:
                continue
            spare -= size
            right, text = self._random.randrange(size + 1), list(request.tokens)
            for place in range(size):
                text.append(token_next(text) + (place >= right))
            drafts[request.id] = tuple(text[-size:])
        return drafts

    def learn(self, request: Request, draft: Sequence[int], right: int) -> None:
        self.drafted += len(draft)
        self.right += right

    def timed(self, rows: int, seconds: float) -> None:
        pass
