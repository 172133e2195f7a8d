"""Adapters applied so that a row's bits do not depend on how many rows share its adapter."""

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from kindling_engine.layers.row_tiles import RowTiles
from kindling_engine.lora.batch import LoraBatch


class TiledLoraBatch(LoraBatch):
    """A LoraBatch whose products run over tiles of rows."""

    __slots__ = ()

    def add(self, output: Tensor, x: Tensor, site: int) -> None:
        """Add every group's share to ``output [n, out]`` in place, from the site's input ``x [n, in]``."""
        for group in self.groups:
            weights = group.weights.sites[site]
            if weights is None:
                continue
            shrink = _tiles(partial(F.linear, weight=weights.shrink), "shrink", weights.shrink)
            for start, stop in group.spans:
                shrunk = shrink(x[start:stop])
                for expand in weights.expands:
                    grow = _tiles(partial(_expanded, weight=expand.weight), "expand", expand.weight)
                    output[start:stop, expand.start : expand.stop] += grow(
                        shrunk[:, expand.first : expand.last]
                    )


def _expanded(x: Tensor, weight: Tensor) -> Tensor:
    return torch.mm(x, weight)


def _tiles(product: partial[Tensor], kind: str, weight: Tensor) -> RowTiles:
    return RowTiles(product, (kind, weight.shape))
