"""How the weights of a product lie in memory: in panels as many outputs wide as a vector has floats."""

import torch
from torch import Tensor

from kindling_engine.jit.operations import CHUNK

_HALF = CHUNK // 2


def lines_pack(weight: Tensor, width: int) -> Tensor:
    """``[out, in]`` as a view ``[out / width, in, width]``: an input's weights beside each other."""
    panels: Tensor = weight.unflatten(0, (-1, width)).transpose(1, 2)
    return panels


def lines_rows(panels: Tensor, outputs: Tensor) -> Tensor:
    """Rows ``[n, in]`` of W from what ``lines_pack`` made."""
    width = panels.shape[2]
    return panels[outputs // width, :, outputs % width]


def pairs_pack(weight: Tensor, width: int) -> Tensor:
    """``[out, in]`` as a view ``[out / width, in / 32, 16, width, 2]``, what tiles of bf16 are multiplied from.

    An input lies beside the one 16 further on, so that both come from whole vectors of x.
    """
    panels: Tensor = weight.unflatten(0, (-1, width)).unflatten(2, (-1, 2, _HALF)).permute(0, 2, 4, 1, 3)
    return panels


def pairs_rows(panels: Tensor, outputs: Tensor) -> Tensor:
    """Rows ``[n, in]`` of W from what ``pairs_pack`` made."""
    width = panels.shape[3]
    # A pair at a time is found in a third of the time.
    words = panels.view(torch.int32).squeeze(-1)[outputs // width, :, :, outputs % width]
    return words.unsqueeze(-1).view(panels.dtype).transpose(2, 3).flatten(1)
