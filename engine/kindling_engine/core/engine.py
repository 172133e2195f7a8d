"""The core's loop: messages in, one step, results out; asleep while there is nothing to do."""

import time
from collections.abc import Callable
from pathlib import Path

from kindling_engine.core.adapters import AdapterDesk
from kindling_engine.core.constraints import ConstraintDesk
from kindling_engine.core.intake import IntakeError, request_make
from kindling_engine.core.link import FrontLink
from kindling_engine.core.loops import loop_make
from kindling_engine.core.overlapped import OverlappedLoop
from kindling_engine.core.replies import step_item, step_items_join
from kindling_engine.core.startup import Parts
from kindling_engine.core.tickets import RequestTicket
from kindling_engine.core.turns import TURN_STEPS
from kindling_engine.core.warmup import (
    step_tokens_for,
    warm_up_mixture,
    warm_up_request,
    warm_up_text,
    warmed_up,
)
from kindling_engine.embeddings.desk import EmbeddingDesk
from kindling_engine.protocol.ipc import (
    Cancel,
    CoreReady,
    Embed,
    ListAdapters,
    LoadAdapter,
    PinAdapter,
    SetGrant,
    Stats,
    Step,
    StepItem,
    Submit,
    ToCore,
    ToFront,
    UnloadAdapter,
)
from kindling_engine.sampling.sampler import Draw
from kindling_engine.scheduler.plan import Outcome
from kindling_engine.scheduler.request import Request, RequestState

_STATS_EVERY_S = 1.0
_RETRY_S = 0.25
_MAX_FAILED_STEPS = 3
_MAX_VAIN_TURNS = TURN_STEPS + 2
"""What waits for room gets it by then, as adapters step back by the turn, or only by something from outside."""
_FIRST = 1 << 30


class EngineCore:
    """Owns the parts; ``send`` takes messages for the front. All methods run on one thread."""

    def __init__(self, parts: Parts, *, blobs: Path, send: Callable[[ToFront], None]) -> None:
        self._parts = parts
        self._scheduler = parts.scheduler
        self._send = send
        self._desk = AdapterDesk(parts, blobs=blobs, send=send, admit=self._admit)
        self._constraints = ConstraintDesk(parts.grammars, parts.config, enter=self._enter)
        self._embeds = parts.config.task == "embed"
        self._embeddings = EmbeddingDesk(
            embeds=self._embeds, vocab_size=parts.config.vocab_size, send=send, admit=self._admit
        )
        self._items: list[StepItem] = []
        self._loop = loop_make(self._scheduler, parts.runner, emit=self._emit)
        self._probe: Request | None = None
        self._probes = 0
        self._vain_turns = 0
        """Turns in a row in which nothing could run of what is to, and no message came."""
        self._steps = self._rows = self._step_tokens = 0
        self._step_s = 0.0
        self._stats_sent = self._current_stats()
        self._stats_at_s = 0.0

    def ready(self) -> CoreReady:
        """Generate warm-up tokens, set the step's size on a CPU, and describe the model. Raises what a step
        raises.
        """
        vocab_size, max_length = self._parts.config.vocab_size, self._scheduler.max_length
        prefill_s = float("inf")
        for index in range(2):
            make = warm_up_text if self._embeds else warm_up_request
            request = make(index, vocab_size=vocab_size, max_length=max_length)
            self._admit(request, time.monotonic())
            started_s = time.monotonic()
            self._step(started_s)
            prefill_s = min(prefill_s, time.monotonic() - started_s)
            while self._scheduler.has_work:
                self._step(time.monotonic())
            if not warmed_up(request):
                raise RuntimeError("the model made no warm-up token")
        if self._parts.device.type == "cpu":
            self._scheduler.step_tokens = step_tokens_for(
                prefill_s, request.prompt_len, self._scheduler.step_tokens
            )
        if isinstance(self._loop, OverlappedLoop):
            self._warm_up_mixture()
        config = self._parts.config
        return CoreReady(
            context_length=self._scheduler.max_length,
            vocab_size=config.vocab_size,
            eos_ids=list(config.eos_ids),
            device=str(self._parts.device),
            dtype=str(self._parts.dtype).removeprefix("torch."),
            kv_blocks=self._parts.kv.pool.capacity,
            hidden_size=config.hidden_size,
            task=config.task,
            speculates=self._parts.speculator is not None,
        )

    def _warm_up_mixture(self) -> None:
        requests = warm_up_mixture(
            vocab_size=self._parts.config.vocab_size,
            max_length=self._scheduler.max_length,
            step_tokens=self._scheduler.step_tokens,
        )
        for request in requests:
            self._admit(request, time.monotonic())
            self._step(time.monotonic())
        while self._scheduler.has_work:
            self._step(time.monotonic())
        if not all(map(warmed_up, requests)):
            raise RuntimeError("the model made no warm-up token beside others")

    def run(self, link: FrontLink) -> None:
        """Serve until the front closes the socket."""
        while not link.closed:
            messages = link.poll(self._sleep_s(time.monotonic()))
            self.turn(messages, time.monotonic())

    def turn(self, messages: list[ToCore], now_s: float) -> None:
        """Take messages in, run at most one step, and send what came of it."""
        if messages:
            self._vain_turns = 0
        for message in messages:
            self._handle(message, now_s)
        for settled in self._constraints.poll(now_s) + self._desk.poll(now_s):
            self._emit(settled)
        for outcome in self._scheduler.expire(now_s):
            self._emit(outcome)
        if self._scheduler.has_work:
            self._step(now_s)
        else:
            self._vain_turns = 0
        if self._items:
            items, self._items = self._items, []
            self._send(Step(items))
        self._stats(now_s)

    def _sleep_s(self, now_s: float) -> float | None:
        works = self._scheduler.has_work
        if works and self._vain_turns < _MAX_VAIN_TURNS:
            return 0.0
        waits = []
        deadline = self._scheduler.next_deadline_s()
        if deadline is not None:
            waits.append(deadline - now_s)
        if self._current_stats() != self._stats_sent:
            waits.append(self._stats_at_s + _STATS_EVERY_S - now_s)
        if self._desk.waiting or works:
            waits.append(_RETRY_S)
        return max(0.0, min(waits)) if waits else None

    def _handle(self, message: ToCore, now_s: float) -> None:
        match message:
            case Submit():
                self._submit(message, now_s)
            case Embed():
                self._embeddings.submit(message, now_s)
            case SetGrant():
                self._constraints.grant(message.id, message.tokens)
                self._desk.grant(message.id, message.tokens)
                self._scheduler.grant(message.id, message.tokens, now_s)
            case Cancel():
                self._cancel(message.id)
            case LoadAdapter():
                self._desk.load(message, now_s)
            case PinAdapter() | UnloadAdapter():
                self._desk.change(message)
            case ListAdapters():
                self._desk.report(message)

    def _submit(self, message: Submit, now_s: float) -> None:
        try:
            request = request_make(message, self._parts.config, now_s)
            if self._embeds:
                self._refuse(
                    message, "not_a_generation_model", "This model makes embeddings; it generates no text."
                )
                return
            outcome = self._constraints.submit(request, message, now_s)
        except IntakeError as error:
            self._refuse(message, "invalid_value", str(error))
            return
        if outcome is not None:
            self._emit(outcome)

    def _enter(self, request: Request, now_s: float) -> Outcome | None:
        """Take in a request that has its constraint, if any: into the scheduler, or to wait for its adapter."""
        return self._desk.submit(request, now_s) if request.adapter else self._scheduler.add(request, now_s)

    def _cancel(self, request_id: str) -> None:
        waiting = self._constraints.cancel(request_id) or self._desk.cancel(request_id)
        outcome = waiting or self._scheduler.cancel(request_id)
        if outcome is not None:
            self._emit(outcome)

    def _refuse(self, message: Submit, code: str, error: str) -> None:
        self._items.append(
            StepItem(
                id=message.id,
                finish="error",
                error_code=code,
                error=error,
                prompt_tokens=len(message.prompt_ids),
            )
        )

    def _admit(self, request: Request, now_s: float) -> None:
        outcome = self._scheduler.add(request, now_s)
        if outcome is not None:
            self._emit(outcome)

    def _step(self, now_s: float) -> None:
        began_s = time.perf_counter()
        plan = self._loop.step(now_s)
        self._vain_turns = self._vain_turns + 1 if plan is None else 0
        if plan is not None:
            self._steps += 1
            self._step_s += time.perf_counter() - began_s
            self._rows += len(plan.rows)
            self._step_tokens += plan.num_tokens
        if self._probe is None:
            if self._loop.failures >= _MAX_FAILED_STEPS:
                self._probe_start(now_s)
        elif self._probe.state is RequestState.ENDED:
            probe, self._probe = self._probe, None
            if not warmed_up(probe):
                raise RuntimeError("the engine computes nothing any more")

    def _probe_start(self, now_s: float) -> None:
        """Tell requests that fail by themselves from an engine that fails, which has to be started again."""
        self._loop.failures = 0
        self._probes += 1
        make = warm_up_text if self._embeds else warm_up_request
        self._probe = make(
            -self._probes, vocab_size=self._parts.config.vocab_size, max_length=self._scheduler.max_length
        )
        self._probe.priority = _FIRST
        self._admit(self._probe, now_s)

    def _emit(self, outcome: Outcome, draw: Draw | None = None) -> None:
        """Pass an outcome to the front, or to whom in the core the request belongs."""
        ticket = outcome.request.payload
        if not isinstance(ticket, RequestTicket):
            raise TypeError(f"request {outcome.request.id} carries no ticket")
        if outcome.finish:
            self._desk.release(outcome.request)
        if ticket.on_outcome is not None:
            ticket.on_outcome(outcome)
        else:
            item = step_item(outcome, None if draw is None else draw.logprobs)
            if self._items and self._items[-1].id == item.id and not self._items[-1].finish:
                self._items[-1] = step_items_join(self._items[-1], item)
            else:
                self._items.append(item)

    def _current_stats(self) -> Stats:
        states, state_slots = self._parts.kv.state_counts
        return Stats(
            active=self._scheduler.active,
            waiting=self._scheduler.waiting + self._desk.pending + self._constraints.pending,
            free_blocks=self._parts.kv.pool.free_count + self._parts.kv.loans.lent,
            blocks=self._parts.kv.pool.capacity,
            steps=self._steps,
            step_s=round(self._step_s, 6),
            rows=self._rows,
            step_tokens=self._step_tokens,
            prompt_tokens=self._scheduler.prompt_tokens,
            cached_tokens=self._scheduler.cached_tokens,
            preemptions=self._scheduler.preemptions,
            adapter_loads=self._parts.adapters.loads,
            adapter_evictions=self._parts.adapters.evictions,
            adapter_fetches=self._parts.adapters.fetches[0],
            adapter_fetch_failures=self._parts.adapters.fetches[1],
            adapter_steps_back=self._desk.stepped_back,
            lent_blocks=self._parts.kv.loans.lent,
            states=states,
            state_slots=state_slots,
            blocks_borrowed=self._parts.kv.loans.borrowed,
            blocks_recalled=self._parts.kv.loans.recalled,
            drafted_tokens=0 if self._parts.speculator is None else self._parts.speculator.drafted,
            guessed_tokens=0 if self._parts.speculator is None else self._parts.speculator.guessed,
        )

    def _stats(self, now_s: float) -> None:
        if now_s - self._stats_at_s < _STATS_EVERY_S:
            return
        stats = self._current_stats()
        if stats != self._stats_sent:
            self._send(stats)
            self._stats_sent, self._stats_at_s = stats, now_s
