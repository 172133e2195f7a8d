"""Draws from a batch of logits: greedy, plain, and with the filters that chats use."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from kindling_engine.bench.kernel.problem import Problem
from kindling_engine.kernels import sampling
from kindling_engine.kernels.sampling import SampleRows
from kindling_engine.sampling.params import SamplingParams

_KINDS = {
    "greedy": SamplingParams(temperature=0.0),
    "plain": SamplingParams(temperature=0.8),
    "filtered": SamplingParams(temperature=0.8, top_k=50, top_p=0.95),
}


@dataclass(frozen=True, slots=True)
class _Inputs:
    logits: Tensor
    rows: SampleRows


def sampling_problems(
    device: torch.device, *, rows: tuple[int, ...] = (32, 256), vocab: int = 151936
) -> Iterator[Problem]:
    """Batches over a vocabulary of 152k tokens, fp32 logits. Nobody else draws with our noise, so random draws have no
    peer.
    """
    for count in rows:
        for kind, params in _KINDS.items():
            yield _problem(device, count, vocab, kind, params)


def _problem(device: torch.device, rows: int, vocab: int, kind: str, params: SamplingParams) -> Problem:
    def inputs(index: int) -> _Inputs:
        generator = torch.Generator(device=device).manual_seed(index)
        logits = 4 * torch.randn(rows, vocab, device=device, generator=generator)

        def column(value: float, dtype: torch.dtype = torch.float32) -> Tensor:
            return torch.full((rows,), value, dtype=dtype, device=device)

        return _Inputs(
            logits,
            SampleRows(
                seeds=torch.arange(rows, device=device),
                made=column(7, torch.int64),
                temperature=column(params.temperature),
                top_k=column(params.top_k, torch.int64),
                top_p=column(params.top_p),
                min_p=column(params.min_p),
            ),
        )

    moved = rows * vocab * 4
    return Problem(
        op=f"sample_{kind}",
        shape=f"{rows} × {vocab:,}",
        dtype="float32",
        inputs=inputs,
        ours=lambda one, config: sampling.sample(one.logits, one.rows, config=config).tokens.float(),
        reference=lambda one: sampling.sample_reference(one.logits, one.rows)[0].tokens.float(),
        configs=sampling.CONFIGS,
        # Draws of equal noise are equal tokens, but for a near tie.
        tolerance=1e-6,
        bytes_read=moved,
        bytes_written=8 * rows,
        peers={"torch": lambda one: lambda: one.logits.argmax(dim=-1).float()} if kind == "greedy" else {},
    )
