"""Tensors of a step that runs without a graph, with persistent rows on the device."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from kindling_engine.kvcache.manager import PAGE_SIZE
from kindling_engine.layers.attention import AttentionInputs, PrefillRows
from kindling_engine.layers.attention_paged import PagedDecode, PagedInputs, PagedPrefill
from kindling_engine.lora.batch import LoraBatch
from kindling_engine.models.base import StepInputs
from kindling_engine.runner.device_rows import NO_ADAPTER, DeviceRows
from kindling_engine.runner.inputs import InputBuilder, lora_head, rotary_lengths
from kindling_engine.runner.slab_lora import SlabAdapters
from kindling_engine.runner.transfer import upload
from kindling_engine.scheduler.plan import ScheduledRow

Places = NDArray[np.int64]


@dataclass(slots=True)
class _Columns:
    """What a step's rows come to on the host; positions and slots in pieces."""

    tokens: list[int] = field(default_factory=list)
    positions: list[Places] = field(default_factory=list)
    slots: list[Places] = field(default_factory=list)
    rows: list[int] = field(default_factory=list)
    lengths: list[int] = field(default_factory=list)
    starts: list[int] = field(default_factory=lambda: [0])
    logit_rows: list[int] = field(default_factory=list)
    span_rows: list[int] = field(default_factory=list)
    sampled: list[int] = field(default_factory=list)
    decodes: int = 0


class DeviceInputBuilder(InputBuilder):
    """As ``InputBuilder``, but a row of one token takes the token from the device, which may have just drawn it.

    With ``slab_adapters`` only adapters that no slab holds make groups.
    """

    slab_adapters: SlabAdapters | None = None

    def build_step(
        self,
        scheduled: Sequence[ScheduledRow],
        state: DeviceRows,
        *,
        spans: Mapping[str, range],
        all_logits: bool = False,
        max_splits: int,
        workspace: object,
        host_rows: bool,
    ) -> tuple[StepInputs, Tensor]:
        """The inputs, and the rows that are drawn for, int64. What has changed in ``state`` is sent along.

        ``host_rows``: attention goes by numbers of the host, and gets those as well.
        """
        column = _Columns()
        prefills: list[PrefillRows] = []
        for item in scheduled:
            row = self._rows.row_for(item.request)
            first, stop = len(column.tokens), item.start + item.count
            self._add(column, item, row, state, draws=item.samples and not all_logits)
            if item.count > 1 and host_rows:
                prefills.append(self._prefill_rows(first, item.start, stop, row))
            if spans and (span := spans.get(item.request.id)):
                shift = len(column.tokens) - stop
                column.span_rows.extend(range(span.start + shift, span.stop + shift))
        decodes, total = column.decodes, len(column.tokens)
        every = all_logits or (not column.span_rows and len(column.logit_rows) == total)
        slots_of_tokens = self.slab_adapters.token_slots(scheduled) if self.slab_adapters else []
        lora = self._lora(scheduled)
        places, values = state.changes_take()
        arrays: list[NDArray[Any]] = [
            places,
            values,
            np.array(column.tokens, dtype=np.int64),
            np.concatenate(column.positions),
            np.concatenate(column.slots),
            np.array(column.rows, dtype=np.int32),
            np.array(column.lengths, dtype=np.int32),
            np.array(column.starts, dtype=np.int32),
            np.array(column.logit_rows + column.span_rows, dtype=np.int64),
            np.array(column.sampled, dtype=np.int64),
            np.array(rotary_lengths(scheduled) if self._rotary_lengths else (), dtype=np.int64),
            np.array(slots_of_tokens, dtype=np.int32),
        ]
        sent = upload(arrays, self._device)
        state.changes_apply(sent[0], sent[1])
        tokens, positions, slots, rows, lengths, starts, logit_rows, sampled, longest, adapter_slots = sent[
            2:
        ]
        num_adapters = len({*slots_of_tokens} - {NO_ADAPTER})
        if self.slab_adapters is not None and num_adapters:
            lora = self.slab_adapters.make(adapter_slots, () if lora is None else lora.groups, num_adapters)
        if decodes:
            tokens[:decodes] = state.last_token.index_select(0, rows[:decodes])
        attention = AttentionInputs(
            slots=slots,
            decode=self._decode_rows(column.rows[:decodes], column.lengths[:decodes])
            if decodes and host_rows
            else None,
            prefills=tuple(prefills),
            paged=PagedInputs(
                slots=slots,
                tables=state.tables,
                decode=PagedDecode(rows[:decodes], lengths[:decodes]) if decodes else None,
                prefill=PagedPrefill(
                    rows[decodes:], starts, lengths[decodes:], max(item.count for item in scheduled)
                )
                if decodes < total
                else None,
                max_splits=max_splits,
                workspace=workspace,
            ),
        )
        inputs = StepInputs(
            tokens=tokens,
            positions=positions,
            attention=attention,
            logit_rows=None if every else logit_rows,
            lora=lora,
            rotary_lengths=longest if self._rotary_lengths else None,
            lora_head=lora_head(lora, None if every else column.logit_rows),
        )
        return inputs, sampled

    def _lora(self, scheduled: Sequence[ScheduledRow]) -> LoraBatch | None:
        lora = InputBuilder._lora(self, scheduled)
        if lora is None or self.slab_adapters is None:
            return lora
        loose = tuple(group for group in lora.groups if group.weights.slot is None)
        return LoraBatch(loose) if loose else None

    def _add(self, column: _Columns, item: ScheduledRow, row: int, state: DeviceRows, *, draws: bool) -> None:
        request, start, stop = item.request, item.start, item.start + item.count
        blocks = self._rows.blocks[row]
        position = np.arange(start, stop, dtype=np.int64)
        column.positions.append(position)
        column.slots.append(blocks[position // PAGE_SIZE] * PAGE_SIZE + position % PAGE_SIZE)
        column.rows.append(row)
        column.lengths.append(stop)
        if item.count == 1:
            column.decodes += 1
            column.tokens.append(0)
            if not state.token_known(row, start):
                state.token_set(row, start, request.tokens[start])
        else:
            column.tokens.extend(request.tokens[start:stop])
            column.starts.append(column.starts[-1] + item.count)
        state.length_set(row, stop, draws=draws)
        if item.samples:
            column.logit_rows.append(len(column.tokens) - 1)
            column.sampled.append(row)
