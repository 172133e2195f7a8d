"""A step in which every row makes one token, in a form that can be captured: all it reads is on the device."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from kindling_engine.kvcache.manager import PAGE_SIZE
from kindling_engine.layers.attention import AttentionInputs, DecodeRows
from kindling_engine.layers.attention_paged import PagedDecode, PagedInputs
from kindling_engine.lora.batch import LoraBatch
from kindling_engine.models.base import Model, StepInputs
from kindling_engine.runner.device_rows import DeviceRows
from kindling_engine.sampling.device import DeviceSampler

LoraOfSlots = Callable[[Tensor], LoraBatch]
"""From each token's slot, int32 ``[n]``, −1 for none; what it launches may be captured."""


@dataclass(frozen=True, slots=True)
class DecodeOutput:
    """Of the first rows in order: ``tokens`` int64 ``[size]``, NO_TOKEN without finite ``logits [size, vocab]``."""

    tokens: Tensor
    logits: Tensor


class DecodeStep:
    """Takes each row's last token, and leaves the next one and the new length in its place.

    Tokens of rows for which the sampler cannot draw mean nothing; whoever draws for them overwrites ``last_token``.
    """

    def __init__(
        self,
        model: Model,
        rows: DeviceRows,
        sampler: DeviceSampler,
        *,
        max_splits: int,
        workspace: object,
        lora: LoraOfSlots | None = None,
    ) -> None:
        """``lora``: adapters of tokens by their slot, for a family of steps apart from those of the base alone."""
        self._model = model
        self._rows = rows
        self._sampler = sampler
        self._max_splits = max_splits
        self._workspace = workspace
        self._lora = lora
        self._tables = rows.tables.view(-1)
        self._rotary_lengths = model.config.rotary_limit is not None

    def __call__(self, size: int, host_rows: DecodeRows | None = None) -> DecodeOutput:
        """Run the first ``size`` rows in order.

        ``host_rows`` are the same rows for an attention that goes by numbers of the host; there must be no padding
        among them.
        """
        rows = self._rows
        order = rows.order[:size]
        active = order < rows.pad
        length = rows.length.index_select(0, order)
        page = order * rows.max_blocks + length // PAGE_SIZE
        slots = self._tables.index_select(0, page).to(torch.int64) * PAGE_SIZE + length % PAGE_SIZE
        after = length + active
        inputs = StepInputs(
            tokens=rows.last_token.index_select(0, order),
            positions=length.to(torch.int64),
            attention=AttentionInputs(
                slots=slots,
                decode=host_rows,
                prefills=(),
                paged=PagedInputs(
                    slots=slots.masked_fill(~active, -1),
                    tables=rows.tables,
                    decode=PagedDecode(order, after),
                    prefill=None,
                    max_splits=self._max_splits,
                    workspace=self._workspace,
                ),
            ),
            logit_rows=None,
            lora=None if self._lora is None else self._lora(rows.adapter_slot.index_select(0, order)),
            rotary_lengths=self._lengths(order, after) if self._rotary_lengths else None,
        )
        logits = self._model.forward(inputs)
        tokens = self._sampler(logits, order, after, rows)
        rows.length.index_add_(0, order, active.to(torch.int32))
        rows.last_token.index_copy_(0, order.to(torch.int64), tokens.clamp(min=0).to(torch.int32))
        return DecodeOutput(tokens, logits)

    def _lengths(self, order: Tensor, after: Tensor) -> Tensor:
        return torch.maximum(self._rows.prompt_len.index_select(0, order), after).to(torch.int64)
