"""What a layer says of its attention, and the cache it reads."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from kindling_engine.layers.kv_narrow import E4M3, widened


@dataclass(frozen=True, slots=True)
class AttentionSpec:
    """One layer's attention.

    ``scale`` multiplies q·k; ``window``: a token sees the last ``window`` positions, itself included, None all;
    ``softcap``: cap·tanh(x/cap) on the scaled scores; ``sinks`` fp32 ``[heads]``: scores of a key without a value
    that every query sees beside the others.
    """

    scale: float
    window: int | None = None
    softcap: float | None = None
    sinks: Tensor | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class LayerCache:
    """One layer's pages ``[kv_heads, pages, PAGE_SIZE, head_dim]``, as ``KvStorage`` numbers them, and by slot.

    Pages in e4m3 have scales fp32 ``[kv_heads]``, and their slots are bytes; they are widened to ``dtype``.
    """

    key_pages: Tensor
    value_pages: Tensor
    key_slots: Tensor
    value_slots: Tensor
    key_scale: Tensor | None = None
    value_scale: Tensor | None = None
    dtype: torch.dtype = field(default=torch.float32, kw_only=True)

    def gather(self, pages: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values of ``pages [n]``, ``[kv_heads, n, PAGE_SIZE, head_dim]`` each, copied."""
        heads, _, size, head_dim = self.key_pages.shape
        # Rows of one table: of a layer's own view, whose heads overlap, torch would copy the whole first.
        apart = self.key_pages.stride(0) // (size * head_dim)
        places = torch.arange(0, heads * apart, apart, device=pages.device).unsqueeze(1) + pages
        chosen, whole = places.view(-1), (heads, -1, size, head_dim)
        if self.key_scale is None or self.value_scale is None:
            keys, values = (
                _table(one).index_select(0, chosen).view(whole) for one in (self.key_pages, self.value_pages)
            )
            return keys, values
        keys, values = (
            widened(
                _table(one.view(torch.uint8)).index_select(0, chosen).view(E4M3).view(whole),
                scale.view(heads, 1, 1, 1),
                self.dtype,
            )
            for one, scale in ((self.key_pages, self.key_scale), (self.value_pages, self.value_scale))
        )
        return keys, values


def _table(pages: Tensor) -> Tensor:
    """Everything from the first page to the last, a row each."""
    heads, count, size, head_dim = pages.shape
    page = size * head_dim
    return pages.as_strided(((heads - 1) * (pages.stride(0) // page) + count, page), (page, 1))
