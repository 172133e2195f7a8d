"""A slab cut at the borders of its matrices, so that it can lie in blocks which are not next to each other.

What reads an adapter finds each matrix for itself, so a matrix must be whole, and a slab need not be.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from kindling_engine.lora.slab_layout import FIELDS, PackedAdapter, header_bytes


@dataclass(frozen=True, slots=True)
class SlabPieces:
    """``spans``: bytes of the slab, from and to, one a block; ``offsets`` int64 ``[sites, 4]`` of the matrices within
    the slab, in bytes, 0 where there is none.
    """

    spans: tuple[tuple[int, int], ...]
    offsets: NDArray[np.int64]

    def placed(self, starts: list[int]) -> NDArray[np.int64]:
        """The offsets of matrices, in bytes, when the pieces begin at ``starts``."""
        firsts = np.array([first for first, _ in self.spans])
        piece = np.searchsorted(firsts, self.offsets, side="right") - 1
        moved = self.offsets + (np.array(starts) - firsts)[piece]
        return np.where(self.offsets > 0, moved, 0)


def slab_pieces(packed: PackedAdapter, num_sites: int, itemsize: int, most_bytes: int) -> SlabPieces | None:
    """As few pieces of at most ``most_bytes`` as the order of the matrices allows; None where one is larger."""
    end, _ = header_bytes(num_sites)
    offsets = packed.slab[:end].view(torch.int64).numpy().reshape(num_sites, FIELDS) * itemsize
    # Matrices lie one behind another in the order of the table.
    begins = offsets[offsets > 0].tolist()
    ends = [*begins[1:], packed.slab.numel()]
    spans: list[tuple[int, int]] = []
    for begin, stop in zip(begins, ends, strict=False):
        if stop - begin > most_bytes:
            return None
        if spans and stop - spans[-1][0] <= most_bytes:
            spans[-1] = (spans[-1][0], stop)
        else:
            spans.append((begin, stop))
    return SlabPieces(tuple(spans), offsets) if spans else None
