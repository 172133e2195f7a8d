"""Rotary position embedding (Su et al., 2021) with the scalings that Llama checkpoints use."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class RotaryConfig:
    """Base and scaling; ``kind`` is default, linear or llama3."""

    theta: float
    kind: str = "default"
    factor: float = 1.0
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    original_context_length: int = 8192


def inverse_frequencies(config: RotaryConfig, head_dim: int, device: torch.device) -> Tensor:
    """Angle per position of each of the ``head_dim / 2`` pairs, fp32."""
    exponents = torch.arange(0, head_dim, 2, dtype=torch.float32, device=device) / head_dim
    inverse = 1.0 / (config.theta**exponents)
    if config.kind == "linear":
        return inverse / config.factor
    if config.kind == "llama3":
        return _llama3_scaled(inverse, config)
    return inverse


def rotary_tables(positions: Tensor, inverse: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Cosines and signed sines for ``positions [n]``: two tensors ``[n, 1, head_dim]``.

    The sines carry the sign of ``rotate_half``, so that rotation is one product, one roll and one fused
    product.
    """
    angles = positions.to(torch.float32)[:, None] * inverse
    cos, sin = angles.cos(), angles.sin()
    return (
        torch.cat((cos, cos), dim=-1).to(dtype).unsqueeze(1),
        torch.cat((-sin, sin), dim=-1).to(dtype).unsqueeze(1),
    )


def rotate(x: Tensor, tables: tuple[Tensor, Tensor]) -> Tensor:
    """Rotate ``x [n, heads, head_dim]`` by its positions: ``x·cos + (−x₂, x₁)·sin``."""
    cos, signed_sin = tables
    return (x * cos).addcmul_(x.roll(x.shape[-1] // 2, -1), signed_sin)


def _llama3_scaled(inverse: Tensor, config: RotaryConfig) -> Tensor:
    """Llama 3.1: long wavelengths are stretched by ``factor``, short ones kept, those between blended."""
    turns = config.original_context_length * inverse / (2 * math.pi)
    blend = (turns - config.low_freq_factor) / (config.high_freq_factor - config.low_freq_factor)
    blend = blend.clamp(0.0, 1.0)
    return inverse / config.factor * (1 - blend) + inverse * blend
