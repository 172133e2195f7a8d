"""MXFP4 weights become ordinary ones while they are read: numbers of four bits times a power of two for 32 of them.

The formats are those of the Open Compute Project's "Microscaling Formats (MX) Specification" (2023): e2m1 numbers, two
in a byte, the lower half first, and e8m0 scales, whose exponent is biased by 127.
"""

from functools import cache

import torch
from torch import Tensor

from kindling_engine.models.errors import ModelError

BLOCK = 32
_BYTES = BLOCK // 2
_E2M1 = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
_NO_NUMBER = 255


def mxfp4_shapes(name: str, shape: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Of the blocks and of the scales that stand for a tensor ``[…, in]``; raises ModelError ``weights_shape``."""
    *outer, width = shape
    if width % BLOCK:
        raise ModelError(
            "weights_shape",
            f"Tensor {name} has rows of {width} numbers, which do not divide into MXFP4's blocks of {BLOCK}.",
        )
    return (*outer, width // BLOCK, _BYTES), (*outer, width // BLOCK)


def mxfp4_check(name: str, scales: Tensor) -> None:
    """Refuse scales that stand for no number; raises ModelError ``weights_dtype``."""
    if bool((scales == _NO_NUMBER).any()):
        raise ModelError("weights_dtype", f"The MXFP4 scales of {name} hold a value that is no number.")


def mxfp4_widen(blocks: Tensor, scales: Tensor) -> Tensor:
    """``blocks [out, in / 32, 16]`` and ``scales [out, in / 32]``, both uint8, as fp32 ``[out, in]``; exact."""
    pairs, powers = _tables(blocks.device)
    # Twice as fast as an index with brackets.
    wide = pairs.index_select(0, blocks.reshape(-1).int()).view(*scales.shape, BLOCK)
    wide *= powers[scales.int()][:, :, None]
    return wide.view(scales.shape[0], -1)


@cache
def _tables(device: torch.device) -> tuple[Tensor, Tensor]:
    """The two numbers of each byte ``[256, 2]``, and the power of two of each scale ``[256]``."""
    signed = torch.tensor([*_E2M1, *(-value for value in _E2M1)])
    byte = torch.arange(256)
    pairs = torch.stack((signed[byte & 15], signed[byte >> 4]), dim=1)
    powers = torch.tensor([2.0 ** (exponent - 127) for exponent in range(_NO_NUMBER)] + [torch.nan])
    return pairs.to(device), powers.to(device)
