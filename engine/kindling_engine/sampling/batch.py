"""Sampling parameters of a batch as tensors, made once while its composition stays the same."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from kindling_engine.sampling.params import SamplingParams


@dataclass(frozen=True, slots=True)
class SampledRow:
    """One row to draw for: its persistent row number and its request's parameters and tokens."""

    row: int
    request_id: str
    params: SamplingParams
    tokens: list[int]
    prompt_len: int
    stop_ids: frozenset[int]

    @property
    def made(self) -> int:
        return len(self.tokens) - self.prompt_len


class SamplingBatch:
    """Columns over the rows of a batch. Index tensors are None where a group is the whole batch or empty."""

    def __init__(self, rows: Sequence[SampledRow], device: torch.device) -> None:
        params = [row.params for row in rows]
        self._device = device
        self.rows = self._ints([row.row for row in rows])
        self.seeds = self._ints([_signed(item.seed) for item in params])
        self.temperature = self._floats([max(item.temperature, 1e-5) for item in params])
        self.top_p = self._floats([item.top_p for item in params])
        self.min_p = self._floats([item.min_p for item in params])
        self.top_k = self._ints([item.top_k for item in params]).unsqueeze(1)
        self.repetition = self._floats([item.repetition_penalty for item in params])
        self.frequency = self._floats([item.frequency_penalty for item in params])
        self.presence = self._floats([item.presence_penalty for item in params])
        self.max_top_k = max(item.top_k for item in params)
        self.greedy = [index for index, item in enumerate(params) if item.is_greedy]
        self.filtered = self._group(
            [i for i, item in enumerate(params) if not item.is_greedy and item.is_filtered]
        )
        self.plain = self._group(
            [i for i, item in enumerate(params) if not item.is_greedy and not item.is_filtered]
        )
        self.penalised = [index for index, item in enumerate(params) if item.has_penalties]
        self.penalised_rows = self.rows[self.penalised]
        self.penalised_index = self._ints(self.penalised)
        self.held_back = [index for index, item in enumerate(params) if item.min_tokens > 0]
        self.logprob_rows = [index for index, item in enumerate(params) if item.logprobs >= 0]
        self.max_logprobs = max((item.logprobs for item in params), default=-1)
        biased = [(i, token, value) for i, p in enumerate(params) for token, value in p.logit_bias.items()]
        self.bias_index = (self._ints([b[0] for b in biased]), self._ints([b[1] for b in biased]))
        self.bias = torch.tensor([b[2] for b in biased], dtype=torch.float32, device=device)
        self.all_greedy = len(self.greedy) == len(params)
        self.changes_logits = bool(self.penalised or self.held_back or biased)

    def _ints(self, values: Sequence[int]) -> Tensor:
        return torch.tensor(values, dtype=torch.int64, device=self._device)

    def _floats(self, values: Sequence[float]) -> Tensor:
        return torch.tensor(values, dtype=torch.float32, device=self._device).unsqueeze(1)

    def _group(self, indices: list[int]) -> Tensor | None:
        return self._ints(indices) if indices else None


def _signed(seed: int) -> int:
    """A 64-bit seed as the signed number that torch can hold."""
    seed &= (1 << 64) - 1
    return seed - (1 << 64) if seed >= 1 << 63 else seed
