"""The scheduler: which tokens of which requests are computed in the next step.

Order inside a step: decodes, then prefills under way, then new requests by fair queueing, up to a token
budget. When blocks run out, parked requests lose theirs first, then the least urgent running one; a preempted
request is recomputed later from its tokens. The most urgent running request can always get blocks that way,
so every admitted request ends.

A step may be planned while the one before it runs: ``launched`` says so, and ``commit`` books each in its turn.
"""

from bisect import insort
from collections.abc import Sequence

from kindling_engine.kvcache.manager import PAGE_SIZE, BlockTable, KvManager
from kindling_engine.kvcache.prefix import UNKNOWN
from kindling_engine.scheduler.drafts import Drafter, draft_count, drafts_add, verify
from kindling_engine.scheduler.fairness import FairQueue
from kindling_engine.scheduler.flights import Flights
from kindling_engine.scheduler.limits import finish_of, prompts_few, refusal_find, step_decides
from kindling_engine.scheduler.parked import Parked
from kindling_engine.scheduler.plan import Finish, Outcome, ScheduledRow, StepPlan
from kindling_engine.scheduler.request import Request, RequestState
from kindling_engine.scheduler.rows import StepRows
from kindling_engine.scheduler.victims import for_blocks, giving_way

GRANT_WAIT_S = 2.0


class Scheduler:
    """Owns every request between ``add`` and its final ``Outcome``."""

    def __init__(
        self,
        *,
        kv: KvManager,
        context_length: int,
        max_batch: int = 64,
        step_tokens: int = 2048,
        grant_wait_s: float = GRANT_WAIT_S,
        whole: bool = False,
        drafter: Drafter | None = None,
    ) -> None:
        """``whole``: a prompt is computed in one step or not yet, for models whose tokens see those behind
        them. ``drafter``: steps are booked before the next is planned.
        """
        self.max_length = min(context_length, kv.pool.capacity * PAGE_SIZE)
        self._kv = kv
        self._max_batch = max_batch
        self.step_tokens = max(step_tokens, max_batch)
        self._whole = whole
        self.drafter = drafter
        self._requests: dict[str, Request] = {}
        self._queue = FairQueue()
        self._running: list[Request] = []
        self._parked = Parked(grant_wait_s)
        self._released: list[str] = []
        self._claims: set[bytes] = set()
        self._flights = Flights(kv)
        self._blocks_awaited = False
        self._now_s = 0.0
        self.preemptions = 0
        self.prompt_tokens = 0
        """Of all requests started so far; ``cached_tokens`` of them came out of the prefix cache."""
        self.cached_tokens = 0

    @property
    def active(self) -> int:
        return len(self._running) + len(self._parked)

    @property
    def waiting(self) -> int:
        return len(self._queue)

    @property
    def has_work(self) -> bool:
        """Whether a step can be planned, or booked."""
        return bool(self._running) or len(self._queue) > 0 or len(self._flights) > 0

    def get(self, request_id: str) -> Request | None:
        return self._requests.get(request_id)

    def next_deadline_s(self) -> float | None:
        return self._parked.next_deadline_s()

    # Requests come, change and go.

    def add(self, request: Request, now_s: float) -> Outcome | None:
        """Take a request in, or refuse it with a final outcome."""
        refusal = refusal_find(request, running=request.id in self._requests, max_length=self.max_length)
        if refusal is not None:
            return refusal
        self._requests[request.id] = request
        request.table = self._kv.table_new(
            adapter=request.adapter, salt=request.salt, prompt_len=request.prompt_len
        )
        if request.grant < 1:
            self._parked.put(request, now_s)
        else:
            request.state = RequestState.WAITING
            self._queue.push(request, now_s)
        return None

    def grant(self, request_id: str, tokens: int, now_s: float) -> None:
        """Raise a request's total grant; a lower or repeated figure changes nothing."""
        request = self._requests.get(request_id)
        if request is None or tokens <= request.grant:
            return
        request.grant = tokens
        if request.state is RequestState.PARKED and not request.held:
            self._unpark(request, now_s)

    def hold(self, request_id: str) -> bool:
        """Keep a request out of the steps to come; True once none under way computes it.

        It keeps its blocks, but for others that need them. One that waits for a grant cannot be held.
        """
        request = self._requests.get(request_id)
        if request is None or request.state is RequestState.PARKED:
            return request is None or request.held
        request.held = True
        if self._flights.carry(request_id):
            return False
        if request.state is RequestState.WAITING:
            self._queue.remove(request)
        else:
            self._running.remove(request)
        self._unclaim(request)
        self._parked.hold(request)
        return True

    def resume(self, request_id: str, now_s: float) -> None:
        """Let a held request take part again."""
        request = self._requests.get(request_id)
        if request is not None and request.held:
            request.held = False
            if request.state is RequestState.PARKED:
                self._unpark(request, now_s)

    def cancel(self, request_id: str, finish: Finish = "cancelled") -> Outcome | None:
        request = self._requests.get(request_id)
        return None if request is None else self._end(request, None, finish)

    def finish(self, request_id: str) -> Outcome | None:
        """End a request whose answer is known to be complete."""
        return self.cancel(request_id, "stop")

    def fail(self, request_id: str, code: str, message: str) -> Outcome | None:
        """End a request because of a failure of ours; what its blocks hold is not trusted."""
        request = self._requests.get(request_id)
        if request is None:
            return None
        request.suspect = True
        return self._end(request, None, "error", code, message)

    def expire(self, now_s: float) -> list[Outcome]:
        """End the parked requests whose grant did not come in time."""
        return [self._end(request, None, "grant_refused") for request in self._parked.late(now_s)]

    # A step.

    def plan(self, now_s: float) -> StepPlan | None:
        """Decide the next step, or None when nothing can run."""
        self._now_s = now_s
        self._blocks_awaited = False
        self._kv.loans.step_begins()
        rows = StepRows()
        for request in tuple(self._running):
            if request.remaining == 1 and not request.held and not step_decides(request, self.max_length):
                self._place(request, 1, rows)
        for request in tuple(self._running):
            if request.remaining > 1 and not request.held:
                left = self.step_tokens - rows.tokens
                if left > 0:
                    self._place(request, min(request.remaining, left), rows)
        self._admit(rows, now_s)
        if not rows.by_id:
            return None
        if self.drafter is not None and not self._blocks_awaited:
            spare = self.step_tokens - rows.tokens
            drafts_add(self.drafter, rows, self._kv, max_length=self.max_length, spare=spare)
        ordered = tuple(sorted(rows.by_id.values(), key=lambda row: not row.decodes))
        released, self._released = tuple(self._released), []
        return StepPlan(ordered, released, self._kv.scrub_take(), rows.tokens)

    def launched(self, plan: StepPlan) -> None:
        """A step is under way: count what it will have computed, so that the next one can be planned meanwhile."""
        self._flights.launch(plan)

    def withdraw(self, plan: StepPlan) -> None:
        """Undo ``launched`` for the step launched last, which failed: its rows can be planned again."""
        self._flights.withdraw(plan)

    def commit(self, plan: StepPlan, tokens: Sequence[int | None], now_s: float) -> list[Outcome]:
        """Book a step's results: a row's ``draws`` tokens each, in order; None where logits were not finite.

        Steps are booked in the order they were launched in. One that was not is taken to begin and end here.
        """
        if not self._flights.has(plan):
            self.launched(plan)
        flight = self._flights.land(plan)
        sampled = iter(tokens)
        outcomes = []
        for row in plan.rows:
            request, drawn = row.request, [next(sampled) for _ in range(row.draws)]
            unvouched = bool(request.adapter) and not row.samples
            self._flights.let_go(flight, row, suspect=unvouched or None in drawn)
            # A request may have ended or lost its blocks while the step ran; what was drawn for it then is void.
            if request.id not in flight.live or request.table is None:
                continue
            request.ahead -= row.samples
            if row.samples and not row.draft and drawn[0] is None:
                failed = self.fail(request.id, "non_finite_logits", "The model produced no finite logits.")
                outcomes += [failed] if failed else []
                continue
            # Prompt chunks of an adapter stay suspect until a finite sample; only a base model is trusted blindly.
            request.suspect = unvouched
            if row.samples:
                self._unclaim(request)
            outcomes += self._book(row, drawn, now_s)
        return outcomes

    def _book(self, row: ScheduledRow, drawn: Sequence[int | None], now_s: float) -> list[Outcome]:
        """Publish what a row computed, and take in what was drawn as far as it stands."""
        request, found = row.request, verify(row.draft, drawn)
        request.computed -= (void := len(row.draft) - found.right)
        # Masked places are multiplied by zero, and what is not finite would show: it is all computed anew.
        request.suspect |= found.spoilt
        if not request.suspect and request.table is not None:
            known = [*request.tokens, *row.draft[: found.right]] if row.draft else request.tokens
            self._kv.publish(request.table, known, row.start + row.count - void)
        if request.embeds and row.samples:
            return [self._end(request, None, "stop")]
        outcomes = []
        for token in found.tokens:
            outcomes.append(self._accept(request, token, now_s))
            if request.state is not RequestState.RUNNING:
                break
        if row.draft and self.drafter is not None:
            draft_count(self.drafter, row, found.right, len(outcomes))
        if found.spoilt and request.state is not RequestState.ENDED:
            request.drafting = None
            self._preempt(request, StepRows())
        return outcomes

    def _place(self, request: Request, count: int, rows: StepRows) -> bool:
        """Schedule ``count`` tokens of a running request, taking blocks from less urgent ones if need be."""
        if request.state is not RequestState.RUNNING or request.table is None:
            return False
        while not self._grow(request.table, request.computed + count):
            if self._blocks_awaited:
                return False
            victim = for_blocks(request, self._running, self._parked.holding())
            if victim is None:
                return False
            self._preempt(victim, rows)
        start, samples = request.computed, count == request.remaining
        moves = self._kv.state_moves(request.table, start, start + count, running=len(self._running))
        rows.put(ScheduledRow(request, start, count, samples=samples, states=moves))
        return True

    def _grow(self, table: BlockTable, num_tokens: int) -> bool:
        """Make room unless somebody waits for blocks that are on their way: the most urgent might wait for ever."""
        missing = self._kv.blocks_missing(table, num_tokens)
        if not missing:
            return True
        if not self._blocks_awaited and self._kv.grow(table, num_tokens):
            return True
        self._blocks_awaited |= missing <= self._flights.blocks_coming
        return False

    def _preempt(self, victim: Request, rows: StepRows) -> None:
        self.preemptions += 1
        rows.drop(victim.id)
        self._drop_blocks(victim)
        if victim.state is RequestState.RUNNING:
            self._running.remove(victim)
            victim.state = RequestState.WAITING
            self._queue.push(victim, self._now_s, front=True)

    def _admit(self, rows: StepRows, now_s: float) -> None:
        """Start waiting requests in their turn while seats, blocks and budget last."""
        skip: set[tuple[str, int]] = set()
        while not self._blocks_awaited:
            left = self.step_tokens - rows.tokens
            request = self._queue.peek(now_s, skip)
            if request is None or request.table is None or left < 1 or not self._has_seat(request):
                return
            if self._whole and rows.by_id and len(request.tokens) > left:
                return
            prefix = UNKNOWN if request.uncached else self._kv.prefix_find(request.table, request.tokens)
            if not self._claims.isdisjoint(prefix.awaited):
                # Somebody is computing the very thing it needs next; a step or two later it is there to share.
                skip.add((request.tenant, request.priority))
                continue
            cached = self._kv.prefix_take(request.table, prefix)
            fits = len(request.tokens) - cached <= left or prompts_few(self._running, rows, self.max_length)
            if not fits or not self._make_way(request, rows):
                self._kv.free(request.table)
                return
            request.start(cached, passed=self._queue.has_above(request.priority, skip))
            self._queue.pop(request, now_s)
            if request.admitted_s is None:
                request.admitted_s = now_s
                request.cached_tokens = min(cached, request.prompt_len)
                self._queue.charge(request, prompt_tokens=request.prompt_len - request.cached_tokens)
                self.prompt_tokens += request.prompt_len
                self.cached_tokens += request.cached_tokens
            request.claims = prefix.promised
            self._claims.update(request.claims)
            self._run(request)
            self._place(request, request.remaining if self._whole else min(request.remaining, left), rows)

    @property
    def _seated(self) -> bool:
        """Whether a seat is free. Parked requests have one while they hold blocks."""
        if self.active < self._max_batch:
            return True
        return len(self._running) + len(self._parked.holding()) < self._max_batch

    def _has_seat(self, request: Request) -> bool:
        """Whether one more may run, or somebody would give way; nobody has to yet."""
        return self._seated or not self._running or bool(giving_way(request, self._running, self._kv.pool))

    def _make_way(self, request: Request, rows: StepRows) -> bool:
        """Whether a request may run with all of its tokens: if that is enough, lower classes give way for it.

        Where nothing runs, parked requests do. Whose steps are under way frees its blocks when they have ended.
        """
        if request.table is None:
            return False
        missing = self._kv.blocks_missing(request.table, len(request.tokens))
        while not (enough := self._kv.make_free(missing)) or not self._seated:
            if not enough and missing <= self._flights.blocks_coming:
                return False
            lacking = 0 if enough else missing - self._kv.pool.free_count
            giving = giving_way(request, self._running, self._kv.pool, lacking)
            if not self._running:
                giving = self._parked.holding()[-1:]
            if not giving:
                return False
            for one in giving:
                self._preempt(one, rows)
        return True

    def _accept(self, request: Request, token: int, now_s: float) -> Outcome:
        request.tokens.append(token)
        self._queue.charge(request, output_tokens=1)
        finish = finish_of(request, token, self.max_length)
        if finish:
            return self._end(request, token, finish)
        if request.made >= request.grant:
            self._running.remove(request)
            self._parked.put(request, now_s)
            return Outcome(request, token, parked=True)
        return Outcome(request, token)

    def _run(self, request: Request) -> None:
        request.state = RequestState.RUNNING
        insort(self._running, request, key=lambda other: (-other.priority, other.arrived_s))

    def _unpark(self, request: Request, now_s: float) -> None:
        self._parked.take(request)
        if request.computed:
            self._run(request)
        else:
            request.state = RequestState.WAITING
            self._queue.push(request, now_s, front=request.admitted_s is not None)

    def _end(
        self, request: Request, token: int | None, finish: Finish, error_code: str = "", error: str = ""
    ) -> Outcome:
        if request.state is RequestState.WAITING:
            self._queue.remove(request)
        elif request.state is RequestState.RUNNING:
            self._running.remove(request)
        elif request.state is RequestState.PARKED:
            self._parked.take(request)
        self._drop_blocks(request)
        request.state = RequestState.ENDED
        del self._requests[request.id]
        if not self._requests:
            self._kv.loans.step_begins()
        return Outcome(request, token, finish, error_code=error_code, error=error)

    def _unclaim(self, request: Request) -> None:
        self._claims.difference_update(request.claims)
        request.claims = ()

    def _drop_blocks(self, request: Request) -> None:
        self._unclaim(request)
        table = request.table
        if table is not None:
            if self._flights.leave(request, table, suspect=request.suspect):
                request.table = BlockTable(table.seed)
            else:
                self._kv.free(table, suspect=request.suspect)
        request.leave()
        self._released.append(request.id)
