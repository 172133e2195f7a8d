"""The noise of ``sampling.noise`` inside of kernels: the same keys, and bit for bit the same uniform numbers."""

import triton
import triton.language as tl


@triton.jit
def row_keys(seed, position):
    """Two uint32 keys from an int64 seed and position (splitmix64)."""
    z = seed.to(tl.uint64) + (position + 1).to(tl.uint64) * 0x9E3779B97F4A7C15
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB
    z = z ^ (z >> 31)
    return z.to(tl.uint32), (z >> 32).to(tl.uint32)


@triton.jit
def uniform(first, second, tokens):
    """Numbers in (0, 1) for int32 ``tokens``, odd multiples of 2⁻²⁴ ("lowbias32")."""
    x = tokens.to(tl.uint32) ^ first
    x = (x ^ (x >> 16)) * 0x7FEB352D
    x = (x ^ (x >> 15)) * 0x846CA68B
    x = (x ^ (x >> 16)) + second
    return ((x & 0x7FFFFF).to(tl.float32) + 0.5) * 1.1920928955078125e-07  # 2⁻²³


@triton.jit
def gumbel(first, second, tokens):
    """Standard Gumbel noise fp32 for int32 ``tokens``: −ln(−ln u).

    ``tl.log`` is the exact one of CUDA's library. An approximate one would not do: near 1, where the winners' numbers
    lie, it is off by more than ln u itself.
    """
    return -tl.log(-tl.log(uniform(first, second, tokens)))
