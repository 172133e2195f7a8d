"""Rotary position embedding (Su et al., 2021) as tables of a step and their application."""

import torch
from torch import Tensor

from kindling_engine.layers.rotary_scaling import RotaryConfig, dynamic_frequencies, inverse_frequencies

RotaryTables = tuple[Tensor, Tensor]
"""Cosines and signed sines, each ``[n, 1, dim]``."""


class Rotary:
    """Makes the tables of one configuration on one device."""

    __slots__ = ("_config", "_inverse")

    def __init__(self, config: RotaryConfig, device: torch.device) -> None:
        self._config = config
        self._inverse = inverse_frequencies(config, device)

    def tables(self, positions: Tensor, lengths: Tensor | None, dtype: torch.dtype) -> RotaryTables:
        """Tables for ``positions [n]``.

        ``lengths [n]`` are what dynamic scaling goes by: how long its sequence was when a token first came in.
        None takes each token for the last of its sequence.

        The sines carry the sign of ``rotate_half``, so that rotation is one product, one roll and one fused
        product.
        """
        inverse = self._inverse
        if self._config.kind == "dynamic":
            inverse = self._dynamic(positions + 1 if lengths is None else lengths)
        angles = positions.to(torch.float32)[:, None] * inverse
        cos, sin = angles.cos(), angles.sin()
        if self._config.attention_factor != 1.0:
            cos, sin = cos * self._config.attention_factor, sin * self._config.attention_factor
        return (
            torch.cat((cos, cos), dim=-1).to(dtype).unsqueeze(1),
            torch.cat((-sin, sin), dim=-1).to(dtype).unsqueeze(1),
        )

    def _dynamic(self, lengths: Tensor) -> Tensor:
        return dynamic_frequencies(self._config, lengths)


def rotate(x: Tensor, tables: RotaryTables) -> Tensor:
    """Rotate ``x [n, heads, head_dim]`` by its positions: ``x·cos + (−x₂, x₁)·sin``.

    Dimensions behind those of the tables stay as they are.
    """
    cos, signed_sin = tables
    dim = cos.shape[-1]
    if dim < x.shape[-1]:
        return torch.cat((rotate(x[..., :dim], tables), x[..., dim:]), dim=-1)
    return (x * cos).addcmul_(x.roll(dim // 2, -1), signed_sin)
