"""Gumbel noise that depends on a request's seed, the position and the token, and on nothing else.

A counter-based generator: no state, so that a row's draw is the same in any batch, after a preemption, and on
a restart.
"""

import torch
from torch import Tensor

_GOLDEN = -7046029254386353131  # 0x9E3779B97F4A7C15, 2^64 divided by the golden ratio, as a signed number
_MIX_1 = -4658895280553007687  # 0xBF58476D1CE4E5B9, from splitmix64
_MIX_2 = -7723592293110705685  # 0x94D049BB133111EB, likewise
_LOW_1 = 0x7FEB352D  # "lowbias32", C. Wellons' search for 32-bit mixers of low bias
_LOW_2 = 0x846CA68B - (1 << 32)
_BITS = 23  # (2^23 − 1 + 0.5) is exact in fp32, so the uniform number never rounds up to 1


def row_keys(seeds: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
    """Two int32 keys ``[m, 1]`` per row from int64 ``seeds`` and ``positions [m]`` (splitmix64)."""
    z = seeds + (positions + 1) * _GOLDEN
    z = (z ^ _shift(z, 30)) * _MIX_1
    z = (z ^ _shift(z, 27)) * _MIX_2
    z = z ^ _shift(z, 31)
    return z.to(torch.int32).unsqueeze(1), _shift(z, 32).to(torch.int32).unsqueeze(1)


def gumbel(keys: tuple[Tensor, Tensor], tokens: Tensor) -> Tensor:
    """Standard Gumbel noise fp32 ``[m, k]`` for int32 ``tokens [m, k]`` or ``[1, k]``: −ln(−ln u)."""
    first, second = keys
    x = tokens ^ first
    x = (x ^ ((x >> 16) & 0xFFFF)) * _LOW_1
    x = (x ^ ((x >> 15) & 0x1FFFF)) * _LOW_2
    x = (x ^ ((x >> 16) & 0xFFFF)) + second
    uniform = (x & ((1 << _BITS) - 1)).to(torch.float32).add_(0.5).mul_(2.0**-_BITS)
    return uniform.log_().neg_().log_().neg_()


def _shift(x: Tensor, bits: int) -> Tensor:
    """Logical right shift of int64; torch shifts arithmetically."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)
