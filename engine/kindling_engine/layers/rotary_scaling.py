"""Angles per position of rotary embedding, for each way to stretch them over a longer context.

All return fp32 ``[dim / 2]``, one angle for each pair of dimensions.
"""

import math
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

RotaryKind = Literal["default", "linear", "dynamic", "llama3", "yarn", "longrope"]
ROTARY_KINDS: tuple[str, ...] = get_args(RotaryKind)


@dataclass(frozen=True, slots=True)
class RotaryConfig:
    """Base, scaling and the number of dimensions of a head that turn, from the first on.

    ``original_length`` is the trained context in tokens; ``attention_factor`` multiplies cosines and sines. What
    follows belongs to llama3, to YaRN, and ``short_factors [dim / 2]`` to longrope within its original length.
    """

    theta: float
    dim: int
    kind: RotaryKind = "default"
    factor: float = 1.0
    original_length: int = 8192
    attention_factor: float = 1.0
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    truncate: bool = True
    short_factors: tuple[float, ...] = ()


def inverse_frequencies(config: RotaryConfig, device: torch.device) -> Tensor:
    """Angles per position; for dynamic scaling those within the original length."""
    if config.kind == "yarn":
        return _yarn(config, device)
    inverse = 1.0 / (config.theta ** _exponents(config.dim, device))
    if config.kind == "linear":
        return inverse / config.factor
    if config.kind == "llama3":
        return _llama3(inverse, config)
    if config.kind == "longrope":
        return inverse / torch.tensor(config.short_factors, dtype=torch.float32, device=device)
    return inverse


def dynamic_frequencies(config: RotaryConfig, lengths: Tensor) -> Tensor:
    """Angles ``[n, dim / 2]`` for sequences of ``lengths [n]`` tokens.

    Beyond the original length L the base grows: θ·(s·n/L − (s − 1))^(d/(d−2)), "dynamic NTK".
    """
    ratio = config.factor * lengths.to(torch.float32) / config.original_length - (config.factor - 1)
    grown = config.theta * ratio ** (config.dim / (config.dim - 2))
    base = torch.where(lengths > config.original_length, grown, config.theta)
    return 1.0 / base[:, None] ** _exponents(config.dim, lengths.device)


def longrope_attention_factor(factor: float, original_length: int) -> float:
    """√(1 + ln s / ln L) for a context stretched by s from L tokens (Ding et al., "LongRoPE", 2024)."""
    return math.sqrt(1 + math.log(factor) / math.log(original_length)) if factor > 1 else 1.0


def yarn_attention_factor(factor: float, mscale: float | None, mscale_all_dim: float | None) -> float:
    """How much YaRN sharpens attention (Peng et al., 2023, eq. 22), or the ratio of two such figures."""

    def sharpened(weight: float) -> float:
        return 0.1 * weight * math.log(factor) + 1.0 if factor > 1 else 1.0

    if mscale and mscale_all_dim:
        return sharpened(mscale) / sharpened(mscale_all_dim)
    return sharpened(1.0)


def _exponents(dim: int, device: torch.device) -> Tensor:
    return torch.arange(0, dim, 2, dtype=torch.float32, device=device) / dim


def _llama3(inverse: Tensor, config: RotaryConfig) -> Tensor:
    """Llama 3.1: long wavelengths are stretched by ``factor``, short ones kept, those between blended."""
    turns = config.original_length * inverse / (2 * math.pi)
    blend = (turns - config.low_freq_factor) / (config.high_freq_factor - config.low_freq_factor)
    blend = blend.clamp(0.0, 1.0)
    return inverse / config.factor * (1 - blend) + inverse * blend


def _yarn(config: RotaryConfig, device: torch.device) -> Tensor:
    """YaRN (Peng et al., 2023): pairs that turn often in the original length are kept, slow ones stretched by
    ``factor``, and those between blended along the pair's index.
    """
    frequencies = config.theta ** _exponents(config.dim, device)
    low, high = _yarn_pair(config, config.beta_fast), _yarn_pair(config, config.beta_slow)
    if config.truncate:
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, config.dim - 1)
    if low == high:
        high += 0.001  # the ramp becomes a step, and nothing is divided by zero
    pairs = torch.arange(config.dim // 2, dtype=torch.float32, device=device)
    stretched = ((pairs - low) / (high - low)).clamp(0.0, 1.0)
    kept = 1 - stretched
    return 1.0 / (config.factor * frequencies) * (1 - kept) + 1.0 / frequencies * kept


def _yarn_pair(config: RotaryConfig, turns: float) -> float:
    """Index of the pair that makes so many turns in the original length."""
    wavelength = config.original_length / (turns * 2 * math.pi)
    return config.dim * math.log(wavelength) / (2 * math.log(config.theta))
