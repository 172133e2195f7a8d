"""Which keys each tile of queries reads, chunk by chunk from borders that are the same for every step."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kindling_engine.kvcache.manager import PAGE_SIZE

CHUNK_PAGES = 8
CHUNK = CHUNK_PAGES * PAGE_SIZE
"""Positions of a chunk. A row reads up to so many in vain; half of it would double the number of products."""

# From so many rows on, reading a chunk once for all of them is worth a product of its own.
_SHARED_BY = 3

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class SharedChunk:
    """A chunk that all of ``tiles`` see the whole of; ``pages [CHUNK_PAGES]``."""

    tiles: Tensor
    pages: Tensor


@dataclass(frozen=True, slots=True)
class TileChunk:
    """The next chunk of the first ``count`` tiles, which are those that have one more.

    Those in ``own``, None for all of them, read ``pages [own · CHUNK_PAGES]``, padded with block 0; ``hidden [own,
    tokens, CHUNK]`` are the keys that a token does not see, None when all see all. The others are in ``shared``.
    """

    count: int
    own: Tensor | None
    pages: Tensor
    hidden: Tensor | None
    shared: tuple[SharedChunk, ...]


@dataclass(frozen=True, slots=True)
class TilePlan:
    """``count`` tiles of ``tokens`` tokens; ``order`` puts those of many chunks first, None if they stand so."""

    count: int
    tokens: int
    order: Tensor | None
    chunks: tuple[TileChunk, ...]


def tiles_plan(blocks: Ints, positions: Ints, window: int | None, device: torch.device) -> TilePlan:
    """Plan for tiles of tokens at ``positions [tiles, tokens]``, ascending, with block tables ``blocks [tiles,
    width]``.
    """
    count, tokens = positions.shape
    seen_from = np.zeros_like(positions) if window is None else np.maximum(positions - window + 1, 0)
    first = seen_from[:, 0] // CHUNK
    chunks_of = positions[:, -1] // CHUNK + 1 - first
    order = np.argsort(-chunks_of, kind="stable")
    sorted_already = bool((order == np.arange(count)).all())
    blocks, positions, seen_from = blocks[order], positions[order], seen_from[order]
    first, chunks_of = first[order], chunks_of[order]
    chunks = []
    for index in range(int(chunks_of[0])):
        active = int((chunks_of > index).sum())
        page = (first[:active, None] + index) * CHUNK_PAGES + np.arange(CHUNK_PAGES)
        # A table may end inside the chunk; what is read there is hidden.
        inside = page < blocks.shape[1]
        pages = np.take_along_axis(blocks[:active], np.where(inside, page, 0), axis=1) * inside
        key = ((first[:active] + index) * CHUNK)[:, None, None] + np.arange(CHUNK)
        hidden = (key > positions[:active, :, None]) | (key < seen_from[:active, :, None])
        groups = _shared(pages, hidden) if tokens == 1 else []
        own = np.setdiff1d(np.arange(active), np.concatenate(groups)) if groups else slice(None)
        chunks.append(
            TileChunk(
                active,
                torch.from_numpy(own).to(device) if isinstance(own, np.ndarray) else None,
                torch.from_numpy(pages[own].reshape(-1)).to(device),
                torch.from_numpy(hidden[own]).to(device) if hidden[own].any() else None,
                tuple(
                    SharedChunk(
                        torch.from_numpy(tiles).to(device), torch.from_numpy(pages[tiles[0]]).to(device)
                    )
                    for tiles in groups
                ),
            )
        )
    return TilePlan(
        count, tokens, None if sorted_already else torch.from_numpy(order).to(device), tuple(chunks)
    )


def _shared(pages: Ints, hidden: NDArray[np.bool_]) -> list[Ints]:
    """Groups of tiles that read the same pages ``[tiles, CHUNK_PAGES]`` and see all of them."""
    if len(pages) < _SHARED_BY:
        return []
    whole = np.flatnonzero(~hidden.any(axis=(1, 2)))
    _, group_of, sizes = np.unique(pages[whole], axis=0, return_inverse=True, return_counts=True)
    return [whole[group_of.reshape(-1) == group] for group in np.flatnonzero(sizes >= _SHARED_BY)]
