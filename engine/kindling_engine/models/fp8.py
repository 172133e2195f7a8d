"""FP8 weights become ordinary ones while they are read: the stored number times its scale, in fp32."""

import torch
from torch import Tensor

from kindling_engine.models.errors import ModelError

SCALE_NAMES = ("weight_scale_inv", "weight_scale")


def fp8_widen(name: str, weight: Tensor, scale: Tensor, block: tuple[int, int]) -> Tensor:
    """``weight [out, in]`` in float8 times its scale, fp32.

    The scale is one number, one per row ``[out]`` or ``[out, 1]``, or one per block
    ``[⌈out / rows⌉, ⌈in / columns⌉]``. Raises ModelError ``weights_shape`` for anything else.
    """
    wide, scale = weight.to(torch.float32), scale.to(torch.float32)
    if scale.numel() == 1:
        return wide * scale.reshape(())
    rows, columns = weight.shape
    if scale.shape in ((rows,), (rows, 1)):
        return wide * scale.reshape(rows, 1)
    if scale.shape == (-(-rows // block[0]), -(-columns // block[1])):
        spread = scale.repeat_interleave(block[0], 0)[:rows].repeat_interleave(block[1], 1)[:, :columns]
        return wide * spread
    raise ModelError(
        "weights_shape",
        f"The scale of {name} has shape {tuple(scale.shape)}, which fits neither its {rows} rows "
        f"nor blocks of {block[0]} by {block[1]}.",
    )
