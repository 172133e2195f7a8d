"""Keys and values in e4m3: a byte each, which times the scale of its layer and KV head is the number it stands for.

A number is divided by the scale and rounded to the nearest that e4m3 has, to even in the middle: one of sixteen parts
of a power of two is the most that it is off by. What is beyond ±448 times the scale becomes the nearest of these. e4m3
has no infinity, and no NaN may enter, as it would be read by whoever has the page next: NaN becomes −448 times the
scale, as the kernels of a GPU have it. What a model makes of a NaN shows in its logits all the same, since the states
that keys and values are made of go past them.
"""

import torch
from torch import Tensor

E4M3 = torch.float8_e4m3fn
LARGEST = 448.0
"""The largest number of e4m3."""


def narrowed(states: Tensor, scale: Tensor) -> Tensor:
    """``states [n, kv_heads, d]`` as e4m3, for ``scale`` fp32 ``[kv_heads]``."""
    shares = states.to(torch.float32) / scale[:, None]
    return shares.nan_to_num_(-LARGEST, LARGEST, -LARGEST).clamp_(-LARGEST, LARGEST).to(E4M3)


def widened(stored: Tensor, scale: Tensor, dtype: torch.dtype) -> Tensor:
    """What e4m3 ``stored`` stands for, with ``scale`` shaped as to meet its KV heads."""
    return stored.to(torch.float32).mul_(scale).to(dtype)
