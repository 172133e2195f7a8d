"""What attention needs to know about a step: which pages each row reads, and what each row may see.

Both depend on a layer's window, and layers share windows; so a view is made when the first layer of a step asks
for it, and kept for the others.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kindling_engine.kvcache.manager import PAGE_SIZE
from kindling_engine.layers.attention_paged import PagedInputs
from kindling_engine.layers.attention_tiles import TilePlan, tiles_plan
from kindling_engine.layers.decode_plan import DecodePlan, plan_make


@dataclass(frozen=True, slots=True)
class DecodeView:
    """Decode rows under one window.

    ``pages [count · width]`` are the rows' blocks, padded with block 0, from the first that the window touches;
    ``length`` keys of each row are read; ``mask [count, 1, 1, length]`` is additive, None when every row sees
    all of them.
    """

    pages: Tensor
    length: int
    mask: Tensor | None


@dataclass(frozen=True, slots=True)
class PrefillView:
    """One request's chunk under one window.

    ``pages`` is None when the keys of this step are all there are. ``mask [rows, length]`` is additive; None
    means plainly causal, which happens only without pages.
    """

    pages: Tensor | None
    length: int
    mask: Tensor | None


@dataclass(slots=True, eq=False)
class DecodeRows:
    """The first rows of the step: one token each of ``count`` requests.

    ``blocks [count, width]`` are their block tables and ``lengths [count]`` their tokens, this step's included.
    """

    blocks: NDArray[np.int64]
    lengths: NDArray[np.int64]
    dtype: torch.dtype
    device: torch.device
    _views: dict[int | None, DecodeView] = field(default_factory=dict)
    _plans: dict[int | None, DecodePlan] = field(default_factory=dict)
    _tiles: dict[int | None, TilePlan] = field(default_factory=dict)
    compiled: dict[int, object] = field(default_factory=dict)
    """What compiled code reads of these rows, by rotation; made and understood where the code is called."""

    @property
    def count(self) -> int:
        return len(self.lengths)

    def plan(self, window: int | None) -> DecodePlan:
        """The rows as a CPU reads them."""
        found = self._plans.get(window)
        if found is None:
            found = self._plans[window] = plan_make(
                self.blocks, self.lengths, window, dtype=self.dtype, device=self.device
            )
        return found

    def tiles(self, window: int | None) -> TilePlan:
        """The rows as tiles of one token."""
        found = self._tiles.get(window)
        if found is None:
            positions = self.lengths[:, None] - 1
            found = self._tiles[window] = tiles_plan(self.blocks, positions, window, self.device)
        return found

    def view(self, window: int | None) -> DecodeView:
        found = self._views.get(window)
        if found is None:
            found = self._views[window] = self._make(window)
        return found

    def _make(self, window: int | None) -> DecodeView:
        lengths = self.lengths
        first_seen = np.zeros_like(lengths) if window is None else np.maximum(lengths - window, 0)
        first_page = first_seen // PAGE_SIZE
        start = first_page * PAGE_SIZE
        length = int((lengths - start).max())
        index = first_page[:, None] + np.arange(-(-length // PAGE_SIZE))
        # A short row's index may run past its table; what it reads there is masked.
        inside = index < self.blocks.shape[1]
        pages = np.take_along_axis(self.blocks, np.where(inside, index, 0), axis=1) * inside
        position = start[:, None] + np.arange(length)
        hidden = (position >= lengths[:, None]) | (position < first_seen[:, None])
        mask = None
        if hidden.any():
            mask = additive(torch.from_numpy(hidden), self.dtype).to(self.device)[:, None, None, :]
        return DecodeView(torch.from_numpy(pages.reshape(-1)).to(self.device), length, mask)


@dataclass(slots=True, eq=False)
class PrefillRows:
    """Rows ``start`` to ``stop`` of the step: consecutive positions of one request, from ``position`` on.

    ``blocks [width]`` cover everything up to the last of them.
    """

    start: int
    stop: int
    position: int
    blocks: NDArray[np.int64]
    dtype: torch.dtype
    device: torch.device
    _views: dict[int | None, PrefillView] = field(default_factory=dict)
    _tiles: dict[int | None, TilePlan] = field(default_factory=dict)

    @property
    def count(self) -> int:
        return self.stop - self.start

    def tiles(self, window: int | None, *, most: int) -> TilePlan:
        """The rows as tiles of ``most`` tokens, or of all where there are fewer; the last one's position fills up."""
        found = self._tiles.get(window)
        if found is None:
            tokens = min(most, self.count)
            count = -(-self.count // tokens)
            offsets = np.minimum(np.arange(count * tokens), self.count - 1).reshape(count, tokens)
            blocks = np.broadcast_to(self.blocks, (count, len(self.blocks)))
            found = self._tiles[window] = tiles_plan(blocks, self.position + offsets, window, self.device)
        return found

    def view(self, window: int | None) -> PrefillView:
        if window is not None and window >= self.position + self.count:
            window = None
        found = self._views.get(window)
        if found is None:
            found = self._views[window] = self._make(window)
        return found

    def _make(self, window: int | None) -> PrefillView:
        stop = self.position + self.count
        first_page = 0 if window is None else max(0, self.position - window + 1) // PAGE_SIZE
        pages = None
        if self.position:
            last_page = -(-stop // PAGE_SIZE)
            pages = torch.from_numpy(self.blocks[first_page:last_page].copy()).to(self.device)
        first_key = first_page * PAGE_SIZE
        mask = None
        if self.position or window is not None:
            keys = torch.arange(first_key, stop, device=self.device)[None, :]
            queries = torch.arange(self.position, stop, device=self.device)[:, None]
            hidden = keys > queries
            if window is not None:
                hidden |= keys <= queries - window
            mask = additive(hidden, self.dtype)
        return PrefillView(pages, stop - first_key, mask)


@dataclass(frozen=True, slots=True)
class AttentionInputs:
    """A step's rows; ``slots [n]`` is where each token's K and V are stored.

    ``singly`` gives all rows of a step with prompts as if each were decoded, where something may read them so; made
    when first asked for, as their block tables are large for long prompts. ``paged`` are the same rows for an attention
    that reads nothing of the host, where there is one.
    """

    slots: Tensor
    decode: DecodeRows | None
    prefills: tuple[PrefillRows, ...]
    singly: Callable[[], DecodeRows] | None = None
    paged: PagedInputs | None = None


def additive(hidden: Tensor, dtype: torch.dtype) -> Tensor:
    """0 where a key is seen and −∞ where it is ``hidden``."""
    mask = torch.zeros(hidden.shape, dtype=dtype, device=hidden.device)
    return mask.masked_fill_(hidden, float("-inf"))
