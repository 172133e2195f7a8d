"""Adapters applied so that a row's bits do not depend on how many rows share its adapter."""

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from kindling_engine.layers.row_tiles import RowTiles, aligned
from kindling_engine.lora.batch import LoraBatch, SiteWeights, regained


class TiledLoraBatch(LoraBatch):
    """A LoraBatch whose products run over tiles of rows."""

    __slots__ = ()

    def linear(self, weight: Tensor) -> Callable[[Tensor], Tensor]:
        return _tiles(partial(F.linear, weight=aligned(weight)), "shrink", weight)

    def _add(
        self, output: Tensor, x: Tensor, spans: tuple[tuple[int, int], ...], weights: SiteWeights
    ) -> None:
        shrink = _tiles(partial(F.linear, weight=weights.shrink), "shrink", weights.shrink)
        for start, stop in spans:
            shrunk = shrink(x[start:stop])
            for expand in weights.expands:
                grow = _tiles(partial(_expanded, weight=expand.weight), "expand", expand.weight)
                columns = regained(output[start:stop, expand.start : expand.stop], expand)
                columns += grow(shrunk[:, expand.first : expand.last])


def _expanded(x: Tensor, weight: Tensor) -> Tensor:
    return torch.mm(x, weight)


def _tiles(product: partial[Tensor], kind: str, weight: Tensor) -> RowTiles:
    return RowTiles(product, (kind, weight.shape))
