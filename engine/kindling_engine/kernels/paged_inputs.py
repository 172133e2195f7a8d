"""Requests with their pages, as our kernels take them and as others do."""

from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from kindling_engine.kvcache.manager import PAGE_SIZE
from kindling_engine.kvcache.storage import KvStorage


@dataclass(frozen=True, slots=True)
class Shape:
    """Heads of one layer."""

    heads: int
    kv_heads: int
    head_dim: int

    def __str__(self) -> str:
        return f"{self.heads}/{self.kv_heads} heads of {self.head_dim}"


LLAMA_8B_HEADS = Shape(32, 8, 128)
QWEN3_06B_HEADS = Shape(16, 8, 128)


@dataclass(frozen=True)
class PagedInputs:
    """``requests`` of ``length`` keys each, of which the last ``q_len`` have queries; pages in random order.

    ``query [requests · q_len, heads, d]``, pages ``[kv_heads, blocks, 16, d]``, ``tables`` int32 ``[requests, width]``.
    """

    query: Tensor
    key_pages: Tensor
    value_pages: Tensor
    tables: Tensor
    rows: Tensor
    starts: Tensor
    lengths: Tensor
    requests: int
    q_len: int
    length: int

    @cached_property
    def dense(self) -> tuple[Tensor, Tensor]:
        """Keys and values ``[requests, kv_heads, length, d]``, for those who know no pages."""
        return self._dense(self.key_pages), self._dense(self.value_pages)

    @cached_property
    def unit_scales(self) -> dict[str, Tensor]:
        """Scales of one for pages that are narrower than queries, by a kernel's names of them; none for others."""
        if self.key_pages.dtype.itemsize > 1:
            return {}
        ones = torch.ones(self.key_pages.shape[0], device=self.query.device)
        return {"key_scale": ones, "value_scale": ones}

    @cached_property
    def batched_query(self) -> Tensor:
        """``[requests, heads, q_len, d]``."""
        heads, head_dim = self.query.shape[1:]
        return self.query.view(self.requests, self.q_len, heads, head_dim).transpose(1, 2).contiguous()

    @cached_property
    def pages_first(self) -> tuple[Tensor, Tensor]:
        """Pages as ``[blocks, kv_heads, 16, d]``."""
        return (
            self.key_pages.transpose(0, 1).contiguous(),
            self.value_pages.transpose(0, 1).contiguous(),
        )

    def parts(self, count: int) -> "list[PagedInputs]":
        """The requests in ``count`` shares as large as each other, which have the pages in common."""
        each = self.requests // count
        queries = self.query.split(each * self.q_len)
        return [
            replace(
                self,
                query=query,
                tables=tables,
                rows=self.rows[:each],
                starts=self.starts[: each + 1],
                lengths=self.lengths[:each],
                requests=each,
            )
            for query, tables in zip(queries, self.tables.split(each), strict=True)
        ]

    def _dense(self, pages: Tensor) -> Tensor:
        kv_heads, _, _, head_dim = pages.shape
        found = pages.index_select(1, self.tables.flatten().long())
        by_request = found.view(kv_heads, self.requests, -1, head_dim).transpose(0, 1)
        return by_request[:, :, : self.length].contiguous()


def paged_inputs(
    shape: Shape,
    *,
    requests: int,
    q_len: int,
    length: int,
    dtype: torch.dtype,
    page_dtype: torch.dtype,
    device: torch.device,
    seed: int,
) -> PagedInputs:
    """Random states; every request has pages of its own."""
    generator = torch.Generator(device=device).manual_seed(seed)
    width = -(-length // PAGE_SIZE)
    blocks = requests * width + 1
    size = (shape.kv_heads, blocks, PAGE_SIZE, shape.head_dim)

    def pages() -> Tensor:
        # Head by head: a GPU's memory need not hold the whole in fp32.
        made = torch.empty(size, dtype=page_dtype, device=device)
        for head in made:
            head.copy_(torch.randn(size[1:], device=device, generator=generator))
        return made

    query = torch.randn(requests * q_len, shape.heads, shape.head_dim, device=device, generator=generator)
    order = torch.randperm(blocks - 1, device=device, generator=generator).to(torch.int32) + 1
    return PagedInputs(
        query=query.to(dtype),
        key_pages=pages(),
        value_pages=pages(),
        tables=order.view(requests, width),
        rows=torch.arange(requests, dtype=torch.int32, device=device),
        starts=torch.arange(requests + 1, dtype=torch.int32, device=device) * q_len,
        lengths=torch.full((requests,), length, dtype=torch.int32, device=device),
        requests=requests,
        q_len=q_len,
        length=length,
    )


def cache_layers(
    shape: Shape,
    *,
    requests: int,
    length: int,
    layers: int,
    dtype: torch.dtype,
    device: torch.device,
    seed: int,
) -> list[PagedInputs]:
    """One query for each request, layer by layer of one cache as it is served: every block has all layers, so that
    those that a layer reads lie far apart. Random numbers, blocks in random order, which all layers have in common.
    """
    generator = torch.Generator(device=device).manual_seed(seed)
    width = -(-length // PAGE_SIZE)
    sizes = {"num_layers": layers, "num_kv_heads": shape.kv_heads, "head_dim": shape.head_dim}
    blocks = requests * width + 1
    memory = torch.empty(
        blocks * KvStorage.block_bytes(**sizes, dtype=dtype), dtype=torch.uint8, device=device
    )
    memory.view(dtype).normal_(generator=generator)
    storage = KvStorage(**sizes, num_blocks=blocks, dtype=dtype, device=device, memory=memory)
    order = torch.randperm(blocks - 1, device=device, generator=generator).to(torch.int32) + 1
    queries = torch.randn(
        layers, requests, shape.heads, shape.head_dim, device=device, generator=generator
    ).to(dtype)
    return [
        PagedInputs(
            query=query,
            key_pages=keys,
            value_pages=values,
            tables=order.view(requests, width) * storage.pages_per_block,
            rows=torch.arange(requests, dtype=torch.int32, device=device),
            starts=torch.arange(requests + 1, dtype=torch.int32, device=device),
            lengths=torch.full((requests,), length, dtype=torch.int32, device=device),
            requests=requests,
            q_len=1,
            length=length,
        )
        for query, (keys, values) in zip(queries, storage.layers, strict=True)
    ]
