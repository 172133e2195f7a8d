"""FP8 weights become ordinary ones while they are read: the stored number times its scale, in fp32."""

import torch
from torch import Tensor

from kindling_engine.models.errors import ModelError

SCALE_ENDINGS = ("_scale_inv", "_scale")
"""Behind the name of the weight that a scale is for."""


def fp8_widen(name: str, weight: Tensor, scale: Tensor, block: tuple[int, int]) -> Tensor:
    """``weight [out, in]`` in float8 times its scale, fp32; or several, ``[n, out, in]``, as experts are stacked.

    The scale is one number, one per row ``[out]`` or ``[out, 1]``, or one per block
    ``[⌈out / rows⌉, ⌈in / columns⌉]``, for several weights ``n`` of such. Raises ModelError ``weights_shape`` for
    anything else, and ``weights_dtype`` for exponents in place of numbers.
    """
    if scale.dtype == torch.uint8:
        raise ModelError(
            "weights_dtype", f"The scale of {name} is uint8, an exponent; scales that are numbers are served."
        )
    if scale.numel() == 1:
        return weight.to(torch.float32).mul_(scale.to(torch.float32).reshape(()))
    if weight.dim() == 3 and scale.dim() and len(scale) == len(weight):
        whole = torch.empty(weight.shape, dtype=torch.float32, device=weight.device)
        for out, one, its_scale in zip(whole, weight, scale, strict=True):
            out.copy_(fp8_widen(name, one, its_scale, block))
        return whole
    if weight.dim() == 2:
        rows, columns = weight.shape
        scale = scale.to(torch.float32)
        if scale.shape in ((rows,), (rows, 1)):
            return weight.to(torch.float32).mul_(scale.reshape(rows, 1))
        if scale.shape == (-(-rows // block[0]), -(-columns // block[1])):
            spread = scale.repeat_interleave(block[0], 0)[:rows].repeat_interleave(block[1], 1)[:, :columns]
            return weight.to(torch.float32).mul_(spread)
    raise ModelError(
        "weights_shape",
        f"The scale of {name} has shape {tuple(scale.shape)}, which fits neither the rows of {tuple(weight.shape)} "
        f"nor blocks of {block[0]} by {block[1]}.",
    )
