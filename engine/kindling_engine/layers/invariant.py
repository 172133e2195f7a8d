"""The row-wise parts of a decoder in a form whose bits do not depend on the batch."""

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from kindling_engine.layers.linear import Linear
from kindling_engine.layers.mlp import Activation, ClampedSwiglu, activation_find, activation_name
from kindling_engine.layers.rotary import Rotary
from kindling_engine.layers.row_kernels import row_kernels_for
from kindling_engine.layers.row_tiles import RowFunction, RowTiles, aligned

# Vectors and the scalars at an array's end part in a few values of a hundred.
_ACTIVATION_TRIAL_ROWS = 512


class TiledLinear(Linear):
    """A Linear over tiles of rows, unless its bits are steady by themselves."""

    __slots__ = ("_tiles",)

    def __init__(self, weight: Tensor, bias: Tensor | None = None) -> None:
        super().__init__(aligned(weight), bias)  # what is left plain is multiplied from an aligned address
        self._tiles = RowTiles(super().__call__, ("linear", weight.shape, bias is not None))

    def __call__(self, x: Tensor) -> Tensor:
        return super().__call__(x) if self.steady else self._tiles(x)


def tiled_router(weight: Tensor, bias: Tensor | None = None) -> RowFunction:
    """``x·Wᵀ + b`` of a mixture of experts."""
    product = partial(F.linear, weight=aligned(weight), bias=bias)
    return RowTiles(product, ("router", weight.shape, bias is not None))


def tiled_activation(name: str) -> Activation:
    activation = activation_find(name)
    tiled = RowTiles(activation, ("activation", name), trial_rows=_ACTIVATION_TRIAL_ROWS)
    return ClampedSwiglu(tiled) if isinstance(activation, ClampedSwiglu) else tiled


def steady_activation(name: str, inner: int) -> Activation:
    """That of a gate of ``inner`` fp32 values on a CPU: as it is where compiled code has the gate, else in tiles."""
    kernels, activation = row_kernels_for("cpu"), activation_find(name)
    if kernels is None or activation_name(activation) not in kernels.activations:
        return tiled_activation(name)
    return activation if kernels.fits(torch.empty((1, 2 * inner)), inner) else tiled_activation(name)


class SingleRotary(Rotary):
    """A Rotary that makes the angles of one length at a time: powers, too, part at an array's end."""

    __slots__ = ()

    def _dynamic(self, lengths: Tensor) -> Tensor:
        different, where = lengths.unique(return_inverse=True)
        return torch.cat([super(SingleRotary, self)._dynamic(one) for one in different.split(1)])[where]
