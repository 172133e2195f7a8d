"""DoRA (Liu et al., 2024): a direction and a magnitude for each row of a weight, so that the base's weight is needed.

PEFT's inference makes ``g·(W·x + s·B·A·x)`` with ``g = m / ‖W + s·B·A‖``, the norm of each row over its inputs.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from kindling_engine.lora.errors import AdapterError


def dora_gain(magnitude: Tensor, rows: Iterator[Tensor], a: Tensor, b: Tensor, path: str) -> Tensor:
    """``g [out]`` of a linear layer: ``magnitude [out]``, W as rows ``[n, in]``, A ``[r, in]``, B ``[out, r]`` scaled.

    All fp32. Raises AdapterError where a norm is zero.
    """
    norms, first = [], 0
    for part in rows:
        last = first + part.shape[0]
        norms.append(torch.addmm(part, b[first:last], a).norm(dim=1))
        first = last
    return _gain(magnitude, torch.cat(norms), path)


def dora_table_gain(magnitude: Tensor, rows: Iterator[Tensor], a: Tensor, b: Tensor, path: str) -> Tensor:
    """``g [width]`` of a table: its columns have the norms. A ``[r, rows]``, B ``[width, r]`` scaled."""
    squares, first = torch.zeros_like(magnitude, dtype=torch.float64), 0
    for part in rows:
        last = first + part.shape[0]
        squares += torch.addmm(part, a[:, first:last].t(), b.t()).square().sum(dim=0, dtype=torch.float64)
        first = last
    return _gain(magnitude, squares.sqrt().float(), path)


def _gain(magnitude: Tensor, norms: Tensor, path: str) -> Tensor:
    gain = magnitude / norms
    if not bool(gain.isfinite().all()):
        raise AdapterError(
            "values",
            f"DoRA's magnitudes of {path} cannot be scaled: with the adapter, a row of the weight is zero.",
            "Choose the base model that the adapter was trained on.",
        )
    return gain
