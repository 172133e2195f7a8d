"""Drawing without the host: which rows a device can draw for inside of a captured step, and how."""

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from kindling_engine.sampling.batch import SampledRow
from kindling_engine.sampling.params import SamplingParams
from kindling_engine.sampling.sampler import NO_TOKEN, best_find


class SamplingColumns(Protocol):
    """Parameters of persistent rows, each ``[rows]``."""

    @property
    def seed(self) -> Tensor: ...
    @property
    def prompt_len(self) -> Tensor: ...
    @property
    def temperature(self) -> Tensor: ...
    @property
    def top_k(self) -> Tensor: ...
    @property
    def top_p(self) -> Tensor: ...
    @property
    def min_p(self) -> Tensor: ...


class DeviceSampler(Protocol):
    """Waits for nothing, and may be captured."""

    def takes(self, row: SampledRow) -> bool:
        """Whether it draws as ``Sampler`` would for such a row."""

    def __call__(self, logits: Tensor, rows: Tensor, lengths: Tensor, columns: SamplingColumns) -> Tensor:
        """Tokens int64 ``[m]`` for ``logits [m, vocab]`` (fp32, unchanged) of ``rows [m]``, int32; NO_TOKEN where they
        are not finite. ``lengths [m]``: tokens before the one to draw.
        """


class GreedySampler:
    """The best token, in plain torch."""

    def takes(self, row: SampledRow) -> bool:
        return is_plain(row) and row.params.is_greedy

    def __call__(self, logits: Tensor, rows: Tensor, lengths: Tensor, columns: SamplingColumns) -> Tensor:
        peaks, best = best_find(logits)
        return best.masked_fill(~peaks.isfinite(), NO_TOKEN)


class KernelSampler:
    """Temperature, top-k, top-p and min-p by our own kernel."""

    def __init__(self, sample: Callable[..., Tensor]) -> None:
        """``sample`` takes logits, seeds, numbers of tokens made, temperatures, top-k, top-p and min-p by row."""
        self._sample = sample

    def takes(self, row: SampledRow) -> bool:
        return is_plain(row) and row.params.typical_p >= 1.0

    def __call__(self, logits: Tensor, rows: Tensor, lengths: Tensor, columns: SamplingColumns) -> Tensor:
        def of(column: Tensor) -> Tensor:
            return column.index_select(0, rows)

        return self._sample(
            logits,
            of(columns.seed),
            (lengths - of(columns.prompt_len)).to(torch.int64),
            of(columns.temperature),
            of(columns.top_k).to(torch.int64),
            of(columns.top_p),
            of(columns.min_p),
        )


def device_sampler_for(device: torch.device) -> DeviceSampler:
    """The best that is there."""
    if device.type == "cuda":
        try:
            from kindling_engine.sampling.device_kernel import kernel_sample
        except ModuleNotFoundError as error:
            if error.name != "triton":
                raise
        else:
            return KernelSampler(kernel_sample)
    return GreedySampler()


def is_plain(row: SampledRow) -> bool:
    """Whether nothing but the row's own logits and filters decides, and nothing but the token is wanted."""
    params: SamplingParams = row.params
    held_back = bool(row.stop_ids) and row.made < params.min_tokens
    return (
        row.constraint is None
        and params.logprobs < 0
        and not params.logit_bias
        and not params.has_penalties
        and not held_back
    )
