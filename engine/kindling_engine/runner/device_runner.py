"""The model runner for a device that works by itself: rows live there, and no launch waits for it.

A step in which every row makes one token, with adapters that lie in slabs or with none, reads nothing but the device's
own state, and is replayed as a graph where one was captured. All other steps are launched operation by operation.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from kindling_engine.kvcache.manager import PAGE_SIZE
from kindling_engine.kvcache.storage import KvStorage
from kindling_engine.layers.attention_paged import splits_for
from kindling_engine.lora.slabs import DeviceSlabs
from kindling_engine.models.base import StepInputs
from kindling_engine.models.decoder import Decoder
from kindling_engine.runner.decode_step import DecodeStep
from kindling_engine.runner.device_inputs import DeviceInputBuilder
from kindling_engine.runner.device_rows import DeviceRows
from kindling_engine.runner.graphs import DecodeGraphs, bucket_for
from kindling_engine.runner.inputs import AdapterLookup
from kindling_engine.runner.launched import LaunchedStep
from kindling_engine.runner.runner import ModelRunner, by_adapter, payload_of, prompt_spans
from kindling_engine.runner.slab_lora import SlabAdapters
from kindling_engine.runner.transfer import download, upload, upload_one
from kindling_engine.sampling.batch import SampledRow
from kindling_engine.sampling.device import DeviceSampler, device_sampler_for
from kindling_engine.sampling.sampler import NO_TOKEN, Draw, LaunchedDraws
from kindling_engine.scheduler.plan import ScheduledRow, StepPlan

logger = logging.getLogger(__name__)

Rows = tuple[ScheduledRow, ...]


@dataclass(frozen=True, slots=True)
class MixedDraws:
    """Tokens ``found [m]`` that the device's sampler drew, and ``others`` at the places for which it could not."""

    found: Tensor
    places: Sequence[int]
    others: LaunchedDraws | None

    def draws(self) -> list[Draw]:
        draws = [Draw(None if token == NO_TOKEN else token) for token in self.found.tolist()]
        if self.others is not None:
            for place, draw in zip(self.places, self.others.draws(), strict=True):
                draws[place] = draw
        return draws


class DeviceRunner(ModelRunner):
    """Runs our own decoders; ``launch`` takes plans whose tokens the step before it is still drawing."""

    def __init__(
        self,
        model: Decoder,
        storage: KvStorage,
        *,
        max_batch: int,
        max_length: int,
        adapter_lookup: AdapterLookup,
        sampler: DeviceSampler | None = None,
        slabs: DeviceSlabs | None = None,
    ) -> None:
        """``sampler``: what draws without the host, by default the device's best. ``slabs``: where adapters lie."""
        super().__init__(
            model, storage, max_batch=max_batch, max_length=max_length, adapter_lookup=adapter_lookup
        )
        self._device_builder = DeviceInputBuilder(
            self._rows,
            dtype=model.dtype,
            device=model.device,
            adapter_lookup=adapter_lookup,
            rotary_lengths=model.config.rotary_limit is not None,
        )
        self._state = DeviceRows(
            num_rows=max_batch, max_blocks=-(-max_length // PAGE_SIZE), device=model.device
        )
        self._device_sampler = device_sampler_for(model.device) if sampler is None else sampler
        self._host_rows = model.paged is None
        self._max_splits = splits_for(max_length)
        self._workspace = None
        if model.paged is not None:
            self._workspace = model.paged.workspace_make(
                requests=max_batch,
                kv_heads=model.config.num_kv_heads,
                head_dim=model.config.head_dim,
                max_splits=self._max_splits,
            )
        self._step = DecodeStep(
            model,
            self._state,
            self._device_sampler,
            max_splits=self._max_splits,
            workspace=self._workspace,
        )
        self._graphs = DecodeGraphs(self._step, max_batch=max_batch, device=model.device)
        self._slab_adapters: SlabAdapters | None = None
        self._lora_step = self._step
        self._lora_graphs = self._graphs
        if slabs is not None:
            adapters = self._slab_adapters = SlabAdapters(slabs, adapter_lookup)
            self._device_builder.slab_adapters = adapters
            self._lora_step = DecodeStep(
                model,
                self._state,
                self._device_sampler,
                max_splits=self._max_splits,
                workspace=self._workspace,
                lora=lambda slots: adapters.make(slots, (), None),
            )
            self._lora_graphs = DecodeGraphs(self._lora_step, max_batch=max_batch, device=model.device)

    def capture(self) -> None:
        """Capture decode steps, where that is possible; it takes a few seconds, and must come before any step."""
        if self._model.device.type != "cuda" or self._host_rows:
            return
        try:
            self._graphs.capture()
            if self._slab_adapters is not None:
                self._lora_graphs.capture()
        except Exception:  # a compiler's refusal has no common class
            logger.exception("decode steps cannot be captured; they are launched operation by operation")

    @torch.inference_mode()
    def launch(self, plan: StepPlan) -> LaunchedStep:
        """Start a step behind those launched before."""
        self._prepare(plan)
        ordered = by_adapter(plan.rows)
        for item in ordered:
            self._seat(item)
        spans = prompt_spans(ordered)
        decodes = not spans and all(item.count == 1 and item.samples for item in ordered)
        if not decodes or not self._by_slots(ordered):
            return self._run(plan, ordered, spans)
        return self._decode(plan, ordered, adapted=any(item.request.adapter for item in ordered))

    def _by_slots(self, ordered: Rows) -> bool:
        """Whether the device knows all about the rows' adapters."""
        if self._slab_adapters is None:
            return not any(item.request.adapter for item in ordered)
        return self._slab_adapters.captured(ordered)

    def recover(self, plan: StepPlan) -> None:
        """As ``ModelRunner.recover``; the rows are sent to the device anew."""
        super().recover(plan)
        self._state.forget_step()

    def _build_all(self, ordered: Rows) -> StepInputs:
        for item in ordered:
            self._seat(item)
        return self._built(ordered, {}, all_logits=True)[0]

    def _released(self, row: int) -> None:
        super()._released(row)
        self._state.forget(row)

    def _seat(self, item: ScheduledRow) -> None:
        request, state = item.request, self._state
        row = self._rows.row_for(request)
        if self._slab_adapters is not None:
            state.adapter_set(row, self._slab_adapters.slot(request.adapter))
        state.seat(row, payload_of(request).params, request.prompt_len)
        state.blocks_set(row, self._rows.blocks_of(row))

    def _decode(self, plan: StepPlan, ordered: Rows, *, adapted: bool) -> LaunchedStep:
        """One token for each row, by a graph where there is one; base rows alone have graphs without adapters."""
        state = self._state
        graphs, step = (self._lora_graphs, self._lora_step) if adapted else (self._graphs, self._step)
        rows = [self._rows.row_for(item.request) for item in ordered]
        for item, row in zip(ordered, rows, strict=True):
            if not state.token_known(row, item.start):
                state.token_set(row, item.start, item.request.tokens[item.start])
        size = None if self._host_rows else bucket_for(graphs.sizes, len(rows))
        state.order_set(rows, size or len(rows))
        changes = state.changes_take()
        if len(changes[0]):
            state.changes_apply(*upload(changes, self._model.device))
        output = None if size is None else graphs.run(size)
        if output is None:
            output = step(len(rows), self._builder.decode_rows(ordered) if self._host_rows else None)
        for row in rows:
            state.advanced(row)
        drawn = self._draw(list(ordered), output.logits[: len(rows)], output.tokens[: len(rows)])
        return LaunchedStep(plan, ordered, drawn, device=self._model.device)

    def _run(self, plan: StepPlan, ordered: Rows, spans: dict[str, range]) -> LaunchedStep:
        """Any step, operation by operation."""
        inputs, rows = self._built(ordered, spans)
        hidden = self._model.hidden(inputs)
        sampling = [item for item in ordered if item.samples]
        scores = self._score_prompts(ordered, spans, hidden[len(sampling) :])
        drawn = None
        if sampling:
            logits = self._model.logits(hidden[: len(sampling)], inputs.lora_head)
            places = rows.to(torch.int32)
            tokens = self._device_sampler(
                logits, places, self._state.length.index_select(0, places), self._state
            )
            self._state.last_token.index_copy_(0, rows, tokens.clamp(min=0).to(torch.int32))
            drawn = self._draw(sampling, logits, tokens)
        return LaunchedStep(plan, sampling, drawn, scores, device=self._model.device, holds=inputs.lora)

    def _built(
        self, ordered: Rows, spans: dict[str, range], *, all_logits: bool = False
    ) -> tuple[StepInputs, Tensor]:
        return self._device_builder.build_step(
            ordered,
            self._state,
            spans=spans,
            all_logits=all_logits,
            max_splits=self._max_splits,
            workspace=self._workspace,
            host_rows=self._host_rows,
        )

    def _draw(self, rows: list[ScheduledRow], logits: Tensor, tokens: Tensor) -> MixedDraws:
        """Keep the tokens that the device's sampler drew where it could, and draw the others from their logits."""
        self._keep_logits(rows, logits)
        sampled = [one for item in rows for one in self._sampled(item)]
        places = [index for index, row in enumerate(sampled) if not self._device_sampler.takes(row)]
        others = self._draw_others(logits, sampled, places) if places else None
        return MixedDraws(download(tokens), places, others)

    def _draw_others(self, logits: Tensor, sampled: list[SampledRow], places: list[int]) -> LaunchedDraws:
        device = self._model.device
        chosen = [sampled[place] for place in places]
        # A copy, since the sampler writes to what it is given and a graph's logits are its own.
        drawn = self._sampler.launch(logits.index_select(0, upload_one(places, torch.int64, device)), chosen)
        rows = upload_one([row.row for row in chosen], torch.int64, device)
        self._state.last_token.index_copy_(0, rows, drawn.tokens.to(torch.int32))
        return drawn
