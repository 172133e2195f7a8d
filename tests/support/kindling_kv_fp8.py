"""A reference for keys and values in e4m3 that knows none of torch's casts: transformers with its cache rounded."""

from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

_MAGNITUDES = torch.tensor(
    [m / 512 for m in range(8)] + [2.0 ** (e - 10) * (8 + m) for e in range(1, 16) for m in range(8)][:-1],
    dtype=torch.float64,
)
"""Of e4m3, by its seven bits: 127 of them, as the last is no number."""


def e4m3_rounded(x: Tensor) -> Tensor:
    """To the nearest number of e4m3, in the middle to the one whose last bit is 0; the greatest for what is beyond."""
    wide = x.double()
    above = torch.searchsorted(_MAGNITUDES, wide.abs().contiguous()).clamp(1, 126)
    below = above - 1
    up, down = _MAGNITUDES[above] - wide.abs(), wide.abs() - _MAGNITUDES[below]
    chosen = torch.where((up < down) | ((up == down) & (above % 2 == 0)), above, below)
    return (_MAGNITUDES[chosen] * wide.sign()).to(x.dtype)


class RoundedCache(DynamicCache):
    """What is put into it comes back as e4m3 times ``scales [layers, K or V, kv_heads]`` would have it."""

    def __init__(self, scales: Tensor, config: Any) -> None:
        super().__init__(config=config)
        self._scales = scales

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> Any:
        key_scale, value_scale = (one[None, :, None, None] for one in self._scales[layer_idx])
        key = e4m3_rounded(key_states / key_scale) * key_scale
        value = e4m3_rounded(value_states / value_scale) * value_scale
        return super().update(key, value, layer_idx, *args, **kwargs)


@torch.inference_mode()
def rounded_logits(model: Any, tokens: list[int], scales: Tensor) -> Tensor:
    """Logits of every token of a text."""
    cache = RoundedCache(scales, model.config)
    return model(torch.tensor([tokens]), past_key_values=cache, use_cache=True).logits[0].float()
