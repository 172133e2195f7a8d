"""Tensors of one step from its scheduled rows."""

from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial

import numpy as np
import torch
from torch import Tensor

from kindling_engine.kvcache.manager import PAGE_SIZE
from kindling_engine.layers.attention import AttentionInputs, DecodeRows, PrefillRows
from kindling_engine.lora.batch import AdapterWeights, LoraBatch, LoraGroup
from kindling_engine.models.base import SequenceRows, StepInputs
from kindling_engine.runner.rows import RowTable
from kindling_engine.scheduler.plan import ScheduledRow

AdapterLookup = Callable[[str], AdapterWeights]
MakeLora = Callable[[tuple[LoraGroup, ...]], LoraBatch]
"""A step's batch of its groups."""


class InputBuilder:
    """Builds StepInputs for rows ordered as decodes, then prefills, each sorted by adapter."""

    def __init__(
        self,
        rows: RowTable,
        *,
        dtype: torch.dtype,
        device: torch.device,
        adapter_lookup: AdapterLookup,
        rotary_lengths: bool = False,
        make_lora: MakeLora = LoraBatch,
        singly: bool = False,
        sequences: bool = False,
    ) -> None:
        """``rotary_lengths``: the model's rotation depends on how long a sequence is. ``singly`` is for attention that
        may read a prompt's rows one by one, ``sequences`` for models that keep a state for each.
        """
        self._rows = rows
        self._dtype = dtype
        self._device = device
        self._adapter_lookup = adapter_lookup
        self._rotary_lengths = rotary_lengths
        self._lora_batch = make_lora
        self._singly = singly
        self._sequences = sequences

    def build(
        self,
        scheduled: Sequence[ScheduledRow],
        *,
        all_logits: bool = False,
        spans: Mapping[str, range] | None = None,
    ) -> StepInputs:
        """Inputs whose wanted rows are the sampling ones, then the positions in ``spans`` by request."""
        tokens: list[int] = []
        positions: list[int] = []
        slots: list[int] = []
        logit_rows: list[int] = []
        span_rows: list[int] = []
        prefills: list[PrefillRows] = []
        decode_rows: list[int] = []
        decode_lengths: list[int] = []
        for item in scheduled:
            row = self._rows.row_for(item.request)
            start, stop = item.start, item.start + item.count
            blocks = self._rows.blocks[row]
            if item.count == 1:
                tokens.append(item.request.tokens[start])
                positions.append(start)
                slots.append(int(blocks[start // PAGE_SIZE]) * PAGE_SIZE + start % PAGE_SIZE)
                decode_rows.append(row)
                decode_lengths.append(stop)
            else:
                where = np.arange(start, stop)
                positions += range(start, stop)
                slots += (blocks[where // PAGE_SIZE] * PAGE_SIZE + where % PAGE_SIZE).tolist()
                if item.draft:
                    tokens += (item.request.tokens[start], *item.draft)
                    decode_rows += [row] * item.count
                    decode_lengths += range(start + 1, stop + 1)
                else:
                    prefills.append(self._prefill_rows(len(tokens), start, stop, row))
                    tokens += item.request.tokens[start:stop]
            logit_rows += range(len(tokens) - item.draws, len(tokens))
            if spans and (span := spans.get(item.request.id)):
                shift = len(tokens) - stop
                span_rows.extend(range(span.start + shift, span.stop + shift))
        every = all_logits or (not span_rows and len(logit_rows) == len(tokens))
        lora = self._lora(scheduled)
        return StepInputs(
            tokens=self._ints(tokens),
            positions=self._ints(positions),
            attention=AttentionInputs(
                slots=self._ints(slots),
                decode=self._decode_rows(decode_rows, decode_lengths) if decode_rows else None,
                prefills=tuple(prefills),
                singly=cache(partial(self._every_row, scheduled)) if prefills and self._singly else None,
            ),
            logit_rows=None if every else self._ints(logit_rows + span_rows),
            lora=lora,
            rotary_lengths=self._ints(rotary_lengths(scheduled)) if self._rotary_lengths else None,
            lora_head=lora_head(lora, None if every else logit_rows),
            sequences=self._sequence_rows(scheduled) if self._sequences else (),
        )

    def decode_rows(self, scheduled: Sequence[ScheduledRow]) -> DecodeRows:
        """Rows of one token each."""
        rows = [self._rows.row_for(item.request) for item in scheduled]
        return self._decode_rows(rows, [item.start + 1 for item in scheduled])

    def _sequence_rows(self, scheduled: Sequence[ScheduledRow]) -> tuple[SequenceRows, ...]:
        rows, start = [], 0
        for item in scheduled:
            row, stop = self._rows.row_for(item.request), start + item.count
            # States of prefixes lie behind those of requests.
            first, source = len(self._rows.blocks), item.states.source
            rows.append(
                SequenceRows(
                    row,
                    start,
                    stop,
                    item.start,
                    None if source is None else first + source,
                    tuple((position, first + slot) for position, slot in item.states.keeps),
                )
            )
            start = stop
        return tuple(rows)

    def _every_row(self, scheduled: Sequence[ScheduledRow]) -> DecodeRows:
        rows = [self._rows.row_for(item.request) for item in scheduled for _ in range(item.count)]
        lengths = [
            length for item in scheduled for length in range(item.start + 1, item.start + item.count + 1)
        ]
        return self._decode_rows(rows, lengths)

    def _decode_rows(self, rows: list[int], lengths: list[int]) -> DecodeRows:
        width = -(-max(lengths) // PAGE_SIZE)
        return DecodeRows(
            blocks=self._rows.blocks[rows, :width],
            lengths=np.array(lengths),
            dtype=self._dtype,
            device=self._device,
        )

    def _prefill_rows(self, first: int, start: int, stop: int, row: int) -> PrefillRows:
        return PrefillRows(
            start=first,
            stop=first + stop - start,
            position=start,
            blocks=self._rows.blocks[row, : -(-stop // PAGE_SIZE)],
            dtype=self._dtype,
            device=self._device,
        )

    def _lora(self, scheduled: Sequence[ScheduledRow]) -> LoraBatch | None:
        """Runs of rows by adapter; None, and not an empty batch, when no row has one."""
        spans: dict[str, list[tuple[int, int]]] = {}
        position = 0
        for item in scheduled:
            adapter, stop = item.request.adapter, position + item.count
            if adapter:
                runs = spans.setdefault(adapter, [])
                if runs and runs[-1][1] == position:
                    runs[-1] = (runs[-1][0], stop)
                else:
                    runs.append((position, stop))
            position = stop
        if not spans:
            return None
        return self._lora_batch(
            tuple(LoraGroup(tuple(runs), self._adapter_lookup(adapter)) for adapter, runs in spans.items())
        )

    def lora_head_of(self, adapter: str, rows: int) -> LoraBatch | None:
        """What an adapter adds to the logits of ``rows`` rows that are all its own."""
        if not adapter:
            return None
        whole = self._lora_batch((LoraGroup(((0, rows),), self._adapter_lookup(adapter)),))
        return lora_head(whole, None)

    def _ints(self, values: list[int]) -> Tensor:
        if self._device.type == "cpu":
            # In a third of the time that torch's own takes.
            return torch.from_numpy(np.array(values, dtype=np.int64))
        return torch.tensor(values, dtype=torch.int64, device=self._device)


def lora_head(lora: LoraBatch | None, wanted: Sequence[int] | None) -> LoraBatch | None:
    """What adapters add to the logits of the tokens ``wanted``, None of all."""
    if lora is None or not any(group.weights.head is not None for group in lora.groups):
        return None
    return lora if wanted is None else lora.at_rows(wanted)


def rotary_lengths(scheduled: Sequence[ScheduledRow]) -> list[int]:
    """A prompt comes in at once, however it is cut into chunks; what follows comes token by token."""
    return [
        max(item.request.prompt_len, position + 1)
        for item in scheduled
        for position in range(item.start, item.start + item.count)
    ]
