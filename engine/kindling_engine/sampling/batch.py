"""Sampling parameters of a batch as tensors, made once while its composition stays the same."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from kindling_engine.constraints.base import TokenConstraint
from kindling_engine.runner.transfer import upload_one
from kindling_engine.sampling.filters import Filters
from kindling_engine.sampling.params import SamplingParams


@dataclass(frozen=True, slots=True)
class SampledRow:
    """One row to draw for: its persistent row number and its request's parameters and tokens.

    ``made`` is the number of tokens made before the one to draw; ``tokens`` may lack the last of them while the step
    that draws it is under way.
    """

    row: int
    request_id: str
    params: SamplingParams
    tokens: list[int]
    prompt_len: int
    made: int
    stop_ids: frozenset[int]
    constraint: TokenConstraint | None = None


class SamplingBatch:
    """Columns over the rows of a batch. Index tensors are None where nobody belongs to a group.

    ``made [m]`` counts each row's tokens; it grows by one with every draw, without a look at the requests.
    """

    def __init__(self, rows: Sequence[SampledRow], device: torch.device) -> None:
        params = [row.params for row in rows]
        self._device = device
        self.made = self._ints([row.made for row in rows])
        self.rows = self._ints([row.row for row in rows])
        self.seeds = self._ints([_signed(item.seed) for item in params])
        self.temperature = self._floats([max(item.temperature, 1e-5) for item in params])
        self.repetition = self._floats([item.repetition_penalty for item in params])
        self.frequency = self._floats([item.frequency_penalty for item in params])
        self.presence = self._floats([item.presence_penalty for item in params])
        drawn = [index for index, item in enumerate(params) if not item.is_greedy]
        self.all_greedy = not drawn
        self.filtered = self._group([index for index in drawn if params[index].is_filtered])
        self.plain = self._group([index for index in drawn if not params[index].is_filtered])
        self.filters = self._filters([params[index] for index in drawn if params[index].is_filtered])
        self.penalised = self._group([index for index, item in enumerate(params) if item.has_penalties])
        biased = [(i, token, value) for i, p in enumerate(params) for token, value in p.logit_bias.items()]
        self.bias_index = self._pairs([(index, token) for index, token, _ in biased])
        self.bias = upload_one([value for _, _, value in biased], torch.float32, device)
        held = [
            (i, token, row.params.min_tokens)
            for i, row in enumerate(rows)
            if row.made < row.params.min_tokens
            for token in row.stop_ids
        ]
        self.held_index = self._pairs([(index, token) for index, token, _ in held])
        self.held_until = self._ints([min_tokens for _, _, min_tokens in held])
        self.reported = [index for index, item in enumerate(params) if item.logprobs >= 0]
        self.reported_index = self._group(self.reported)
        self.report_counts = [params[index].logprobs for index in self.reported]
        self.changes_logits = self.penalised is not None or bool(biased or held)

    def _filters(self, params: Sequence[SamplingParams]) -> Filters:
        typical = [item.typical_p for item in params]
        return Filters(
            top_k=self._ints([item.top_k for item in params]).unsqueeze(1),
            top_p=self._floats([item.top_p for item in params]),
            min_p=self._floats([item.min_p for item in params]),
            typical_p=self._floats(typical) if any(one < 1.0 for one in typical) else None,
        )

    def _ints(self, values: Sequence[int]) -> Tensor:
        return upload_one(values, torch.int64, self._device)

    def _floats(self, values: Sequence[float]) -> Tensor:
        return upload_one(values, torch.float32, self._device).unsqueeze(1)

    def _pairs(self, pairs: Sequence[tuple[int, int]]) -> tuple[Tensor, Tensor]:
        return self._ints([first for first, _ in pairs]), self._ints([second for _, second in pairs])

    def _group(self, indices: list[int]) -> Tensor | None:
        return self._ints(indices) if indices else None


def _signed(seed: int) -> int:
    """A 64-bit seed as the signed number that torch can hold."""
    seed &= (1 << 64) - 1
    return seed - (1 << 64) if seed >= 1 << 63 else seed
