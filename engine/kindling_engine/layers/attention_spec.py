"""What a layer says of its attention, and the cache it reads."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, slots=True)
class AttentionSpec:
    """One layer's attention.

    ``scale`` multiplies q·k; ``window``: a token sees the last ``window`` positions, itself included, None all;
    ``softcap``: cap·tanh(x/cap) on the scaled scores.
    """

    scale: float
    window: int | None = None
    softcap: float | None = None


@dataclass(frozen=True, slots=True)
class LayerCache:
    """One layer's pages ``[kv_heads, blocks, PAGE_SIZE, head_dim]`` and the same memory by slot."""

    key_pages: Tensor
    value_pages: Tensor
    key_slots: Tensor
    value_slots: Tensor
