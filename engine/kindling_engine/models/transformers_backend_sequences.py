"""Models whose attention or cache is all their own: one sequence after the other, each with a cache of transformers.

The slower way to serve a model: a step is as many passes as it has sequences, and pages hold nothing but their count.
What a sequence has been through is kept with its cache. So one whose cache does not end where its tokens go on, as
after a step that failed, or whose model can neither go back nor take several tokens at once, is gone through anew.
"""

import sys
from dataclasses import dataclass

import torch
from torch import Tensor

from kindling_engine.kvcache.storage import KvStorage
from kindling_engine.lora.batch import LoraBatch
from kindling_engine.lora.sites import LoraLayout
from kindling_engine.models.base import SequenceRows, StepInputs
from kindling_engine.models.transformers_backend_caches import OwnCache, OwnCaches
from kindling_engine.models.transformers_backend_config import BackendConfig
from kindling_engine.models.transformers_backend_lora import LinearSites

# Tokens of a pass that goes through a known sequence anew: scores of all with all would take too much memory.
_ANEW_TOKENS = 512


@dataclass(frozen=True, slots=True)
class _Kept:
    """What a sequence has been through, ``tokens [n]``, and what transformers keeps of it; None where that is lost."""

    tokens: Tensor
    cache: OwnCache | None = None


_NEW = _Kept(torch.empty(0, dtype=torch.int64))


class SequencesModel:
    """A model of transformers behind the engine's interface, a sequence at a time."""

    def __init__(
        self,
        *,
        config: BackendConfig,
        caches: OwnCaches,
        sites: LinearSites,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        self.config = config
        self.device = device
        self.dtype = dtype
        # How many tokens can go on from a cache in a pass: any number, one, or none. If there are more, all before them
        # are gone through with them.
        self._most = sys.maxsize if caches.keeps else 0
        self._caches = caches
        self._sites = sites
        self._kept: dict[int, _Kept] = {}

    @property
    def lora(self) -> LoraLayout:
        return self._sites.layout

    def bind(self, storage: KvStorage) -> None:
        """Nothing lies in pages."""

    def reserve(self, sequences: int) -> None:
        """Caches grow with their sequences."""

    def release(self, row: int) -> None:
        """Let go of what is kept of the sequence that had a row."""
        self._kept.pop(row, None)

    def more_slowly(self) -> bool:
        """Fall back to fewer tokens in a pass that goes on; False if there are none already."""
        before, self._most = self._most, min(1, self._most // 2)
        return before > 0

    def hidden(self, inputs: StepInputs) -> Tensor:
        """Normed final states ``[m, hidden]`` of the wanted rows."""
        with self._sites.applied(inputs.lora):
            hidden = torch.cat(
                [self._sequence(one, inputs.tokens[one.start : one.stop]) for one in inputs.sequences]
            )
        return hidden if inputs.logit_rows is None else hidden.index_select(0, inputs.logit_rows)

    def logits(self, hidden: Tensor, lora: LoraBatch | None = None) -> Tensor:
        """Logits ``[m, vocab]`` in fp32. There are no adapters of the head here."""
        return self._caches.trunk.logits(hidden)

    def forward(self, inputs: StepInputs) -> Tensor:
        return self.logits(self.hidden(inputs))

    def _sequence(self, one: SequenceRows, new: Tensor) -> Tensor:
        """States ``[n, hidden]`` of a sequence's ``new`` tokens."""
        before, cache = self._take(one)
        if len(new) > self._most:
            cache = None
        tokens = torch.cat([before, new]) if one.position else new
        if cache is not None or not one.position:
            parts = [new]
        else:
            parts = [*before.split(_ANEW_TOKENS), new] if self._most > 1 else [tokens]
        position, states = len(tokens) - sum(map(len, parts)), new
        for part in parts:
            with self._sites.of_one(one.start):
                states, cache = self._caches.go_on(part, position, cache)
            position += len(part)
        self._kept[one.row] = _Kept(tokens, cache)
        return states[-len(new) :]

    def _take(self, one: SequenceRows) -> tuple[Tensor, OwnCache | None]:
        """Tokens ``[position]`` that a sequence has been through, and the cache that ends there, if there is one.

        The cache is left to the pass to come: should that fail, tokens are all that is known.
        """
        kept = self._kept.get(one.row) if one.position else _NEW
        if kept is None or len(kept.tokens) < one.position:
            raise RuntimeError("a sequence's cache does not end where its tokens go on")
        before = kept.tokens[: one.position]
        self._kept[one.row] = _Kept(before)
        return before, kept.cache if len(kept.tokens) == one.position else None
