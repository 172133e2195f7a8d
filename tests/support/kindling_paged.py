"""Requests over paged KV as the attention kernels read them, and what lies around them made poisonous."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from kindling_engine.kernels.paged_reference import paged_reference
from kindling_engine.layers.attention_spec import AttentionSpec

PAGE = 16
TOLERANCE = {torch.float32: 2e-6, torch.float16: 4e-3, torch.bfloat16: 3e-2}


@dataclass(frozen=True, slots=True)
class PagedCase:
    """Arguments of a kernel; ``scales`` by their names, empty without any."""

    query: Tensor
    pages: tuple[Tensor, Tensor]
    block_tables: Tensor
    rows: Tensor
    query_starts: Tensor
    lengths: Tensor
    scales: dict[str, Tensor]

    def expected(self, spec: AttentionSpec, **others: Any) -> tuple[Tensor, Tensor]:
        """The reference's output and log-sums."""
        return paged_reference(
            self.query,
            *self.pages,
            self.block_tables,
            self.rows,
            self.query_starts,
            self.lengths,
            spec=spec,
            **self.scales,
            **others,
        )


def paged_case(
    device: torch.device,
    dtype: torch.dtype,
    *,
    queries: list[int],
    lengths: list[int],
    kv_heads: int = 2,
    group: int = 3,
    head_dim: int = 32,
    page_dtype: torch.dtype | None = None,
    seed: int = 0,
) -> PagedCase:
    """Random requests with shuffled blocks and rows; slots that hold none of their keys are NaN, block 0 included."""
    generator = torch.Generator().manual_seed(seed)
    widths = [-(-length // PAGE) for length in lengths]
    blocks = 1 + torch.randperm(sum(widths) + 2, generator=generator)
    shape = (kv_heads, len(blocks) + 1, PAGE, head_dim)
    tables = torch.zeros(len(lengths) + 1, max(widths) + 1, dtype=torch.int32)
    rows = torch.randperm(len(lengths) + 1, generator=generator)[: len(lengths)]
    held = torch.zeros(shape[1], PAGE, dtype=torch.bool)
    taken = 0
    for row, width, length in zip(rows.tolist(), widths, lengths, strict=True):
        own = blocks[taken : taken + width]
        tables[row, :width] = own
        held[own] = (torch.arange(width * PAGE) < length).view(width, PAGE)
        taken += width

    def pages() -> Tensor:
        made = torch.randn(shape, generator=generator).masked_fill(~held[None, :, :, None], float("nan"))
        return made.to(page_dtype or dtype).to(device)

    scales = {}
    if page_dtype is not None:
        for name in ("key_scale", "value_scale"):
            scales[name] = (0.5 + torch.rand(kv_heads, generator=generator)).to(device)
    starts = torch.tensor([0, *queries]).cumsum(0)
    query = 2 * torch.randn(int(starts[-1]), kv_heads * group, head_dim, generator=generator)
    return PagedCase(
        query=query.to(dtype).to(device),
        pages=(pages(), pages()),
        block_tables=tables.to(device),
        rows=rows.int().to(device),
        query_starts=starts.int().to(device),
        lengths=torch.tensor(lengths, dtype=torch.int32, device=device),
        scales=scales,
    )
