"""Persistent rows: each request in the batch keeps one, with its block table as an array of pages."""

import numpy as np
from numpy.typing import NDArray

from kindling_engine.kvcache.pool import NULL_BLOCK
from kindling_engine.scheduler.request import Request


class RowTable:
    """Row numbers of requests and their block tables, extended in place as blocks are added.

    A table holds the page at which each block begins, as ``KvStorage`` numbers them: its ``pages_per_block`` a block.
    """

    def __init__(self, *, num_rows: int, max_blocks: int, pages_per_block: int) -> None:
        self._pages_per_block = pages_per_block
        self.blocks: NDArray[np.int64] = np.full((num_rows, max_blocks), NULL_BLOCK, dtype=np.int64)
        self._free = list(range(num_rows - 1, -1, -1))
        self._row_of: dict[str, int] = {}
        self._filled = [0] * num_rows

    def row_for(self, request: Request) -> int:
        """The request's row, taken on first sight, with its block table up to date."""
        row = self._row_of.get(request.id)
        if row is None:
            row = self._row_of[request.id] = self._free.pop()
        if request.table is None:
            raise RuntimeError(f"request {request.id} was scheduled without blocks")
        blocks = request.table.blocks
        filled = self._filled[row]
        if filled < len(blocks):
            begun = np.array(blocks[filled:], dtype=np.int64) * self._pages_per_block
            self.blocks[row, filled : len(blocks)] = begun
            self._filled[row] = len(blocks)
        return row

    def find(self, request_id: str) -> int | None:
        """The row of a request that has one."""
        return self._row_of.get(request_id)

    def blocks_of(self, row: int) -> NDArray[np.int64]:
        """The blocks that a row's request has."""
        return self.blocks[row, : self._filled[row]]

    def release(self, request_id: str) -> int | None:
        """Clear and free a request's row; returns its number, or None if it had none."""
        row = self._row_of.pop(request_id, None)
        if row is not None:
            self.blocks[row, : self._filled[row]] = NULL_BLOCK
            self._filled[row] = 0
            self._free.append(row)
        return row
