"""The model runner: one call per step."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from kindling_engine.constraints.base import Behind, ForeseeableConstraint, TokenConstraint
from kindling_engine.kvcache.manager import PAGE_SIZE
from kindling_engine.kvcache.storage import KvStorage
from kindling_engine.lora.batch import LoraBatch
from kindling_engine.lora.tiled import TiledLoraBatch
from kindling_engine.models.base import Model, StepInputs
from kindling_engine.runner.inputs import AdapterLookup, InputBuilder, MakeLora
from kindling_engine.runner.launched import LaunchedStep
from kindling_engine.runner.rows import RowTable
from kindling_engine.runner.transfer import upload_one
from kindling_engine.sampling.batch import SampledRow
from kindling_engine.sampling.params import SamplingParams
from kindling_engine.sampling.prompt_scores import PromptScores
from kindling_engine.sampling.sampler import Draw, LaunchedDraws, Sampler
from kindling_engine.scheduler.plan import ScheduledRow, StepPlan
from kindling_engine.scheduler.request import Request


@dataclass(slots=True, eq=False)
class RunnerPayload:
    """What the runner needs of a request beyond the scheduler's view; it hangs on ``Request.payload``.

    ``keep_logits`` makes the runner leave the logits of the first drawn token in ``first_logits``. The prompt's own
    log-probabilities go into ``prompt_scores``, if there. ``constraint`` says which tokens may be drawn.
    """

    params: SamplingParams
    constraint: TokenConstraint | None = None
    prompt_scores: PromptScores | None = None
    keep_logits: bool = False
    first_logits: Tensor | None = None


class ModelRunner:
    """Holds the KV pages and persistent rows, and executes step plans on the model."""

    def __init__(
        self,
        model: Model,
        storage: KvStorage,
        *,
        max_batch: int,
        max_length: int,
        adapter_lookup: AdapterLookup,
        batch_invariant: bool = False,
        make_lora: MakeLora = LoraBatch,
        state_slots: int = 0,
    ) -> None:
        """``batch_invariant`` is as the model was loaded; adapters are then applied row by row whatever
        ``make_lora`` would do. ``state_slots``: states of so many prefixes are kept.
        """
        model.bind(storage)
        sequences = model.config.state_bytes > 0 or model.config.token_bytes > 0
        if sequences:
            model.reserve(max_batch + state_slots)
        self._model = model
        self._storage = storage
        self._rows = RowTable(
            num_rows=max_batch,
            max_blocks=-(-max_length // PAGE_SIZE),
            pages_per_block=storage.pages_per_block,
        )
        self._builder = InputBuilder(
            self._rows,
            dtype=model.dtype,
            device=model.device,
            adapter_lookup=adapter_lookup,
            rotary_lengths=model.config.rotary_limit is not None,
            make_lora=TiledLoraBatch if batch_invariant else make_lora,
            singly=model.device.type == "cpu",
            sequences=sequences,
        )
        self._row_by_row = batch_invariant
        self._sampler = Sampler(
            num_rows=max_batch,
            vocab_size=model.config.vocab_size,
            device=model.device,
            row_by_row=batch_invariant,
        )

    def execute(self, plan: StepPlan) -> list[Draw]:
        """Run a step; one draw per sampling row, in the plan's order."""
        return self.launch(plan).draws()

    @torch.inference_mode()
    def launch(self, plan: StepPlan) -> LaunchedStep:
        """Start a step; the tokens it begins with must be known."""
        self._prepare(plan)
        ordered = by_adapter(plan.rows)
        spans = prompt_spans(ordered)
        inputs = self._builder.build(ordered, spans=spans)
        sampling = [row for row in ordered if row.samples]
        scores: Sequence[PromptScores] = ()
        drawn = None
        if sampling and not spans:
            drawn = self._sample(sampling, self._model.forward(inputs))
        else:
            hidden = self._model.hidden(inputs)
            draws = sum(row.draws for row in sampling)
            scores = self._score_prompts(ordered, spans, hidden[draws:])
            if sampling:
                drawn = self._sample(sampling, self._model.logits(hidden[:draws], inputs.lora_head))
        return LaunchedStep(plan, sampling, drawn, scores, device=self._model.device, holds=inputs.lora)

    @torch.inference_mode()
    def logits_all(self, plan: StepPlan) -> Tensor:
        """Run a step and return the logits of every token, in the plan's order of rows; draws nothing."""
        self._prepare(plan)
        ordered = by_adapter(plan.rows)
        logits = self._model.forward(self._build_all(ordered))
        parts = dict(
            zip(
                (row.request.id for row in ordered),
                logits.split_with_sizes([row.count for row in ordered]),
                strict=True,
            )
        )
        return torch.cat([parts[row.request.id] for row in plan.rows])

    def _build_all(self, ordered: tuple[ScheduledRow, ...]) -> StepInputs:
        return self._builder.build(ordered, all_logits=True)

    def recover(self, plan: StepPlan) -> None:
        """After a failure: forget what the sampler keeps for the plan's rows, which may be half a step ahead."""
        self._prepare(plan)
        for item in plan.rows:
            row = self._rows.find(item.request.id)
            if row is not None:
                self._released(row)

    def _prepare(self, plan: StepPlan) -> None:
        for request_id in plan.released:
            row = self._rows.release(request_id)
            if row is not None:
                self._released(row)
                self._model.release(row)
        if plan.scrub:
            self._storage.scrub(upload_one(plan.scrub, torch.int64, self._model.device))

    def _released(self, row: int) -> None:
        """What is kept for a row is void."""
        self._sampler.release(row)

    def _sampled(self, scheduled: ScheduledRow) -> list[SampledRow]:
        """A row's draws: behind its last token, and behind each of its draft."""
        request, payload = scheduled.request, payload_of(scheduled.request)
        made = scheduled.start + scheduled.count - len(scheduled.draft) - request.prompt_len
        return [
            SampledRow(
                row=self._rows.row_for(request),
                request_id=request.id,
                params=payload.params,
                tokens=request.tokens,
                prompt_len=request.prompt_len,
                made=made + place,
                stop_ids=request.stop_ids,
                constraint=_constraint_at(payload.constraint, scheduled.draft[:place]),
            )
            for place in range(scheduled.draws)
        ]

    def _sample(self, rows: list[ScheduledRow], logits: Tensor) -> LaunchedDraws:
        self._keep_logits(rows, logits)
        return self._sampler.launch(logits, [one for row in rows for one in self._sampled(row)])

    def _score_prompts(
        self, rows: tuple[ScheduledRow, ...], spans: dict[str, range], hidden: Tensor
    ) -> list[PromptScores]:
        """Score prompt tokens from the final states behind those of the sampling rows."""
        scored = []
        wanted = [(row.request, spans[row.request.id]) for row in rows if row.request.id in spans]
        parts = hidden.split_with_sizes([len(span) for _, span in wanted])
        for (request, span), part in zip(wanted, parts, strict=True):
            scores = payload_of(request).prompt_scores
            if scores is not None:
                logits_of = partial(self._logits_of, request.adapter)
                scores.add(request.tokens, span, part, logits_of, row_by_row=self._row_by_row)
                scored.append(scores)
        return scored

    def _logits_of(self, adapter: str, hidden: Tensor) -> Tensor:
        return self._model.logits(hidden, self._builder.lora_head_of(adapter, hidden.shape[0]))

    def _keep_logits(self, rows: list[ScheduledRow], logits: Tensor) -> None:
        index = 0
        for row in rows:
            payload = payload_of(row.request)
            if payload.keep_logits and payload.first_logits is None:
                payload.first_logits = logits[index].clone()
            index += row.draws


def by_adapter(rows: tuple[ScheduledRow, ...]) -> tuple[ScheduledRow, ...]:
    """Decodes, then prefills, each with equal adapters side by side; base rows first."""
    if not any(row.request.adapter for row in rows):
        return rows
    return tuple(sorted(rows, key=lambda row: (not row.decodes, row.request.adapter)))


def prompt_spans(rows: tuple[ScheduledRow, ...]) -> dict[str, range]:
    """By request the positions whose final states its prompt scores need; empty in nearly every step."""
    spans = {}
    for row in rows:
        if row.request.uncached:
            scores = payload_of(row.request).prompt_scores
            span = range(0) if scores is None else scores.wanted(row.start, row.start + row.count)
            if span:
                spans[row.request.id] = span
    return spans


def _constraint_at(constraint: TokenConstraint | None, draft: tuple[int, ...]) -> TokenConstraint | None:
    """A request's constraint behind so much of its draft; only such as can tell have drafts."""
    return (
        Behind(constraint, draft) if draft and isinstance(constraint, ForeseeableConstraint) else constraint
    )


def payload_of(request: Request) -> RunnerPayload:
    """What the runner needs of a request."""
    if not isinstance(request.payload, RunnerPayload):
        raise TypeError(f"request {request.id} carries no runner payload")
    return request.payload
