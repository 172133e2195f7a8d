"""An adapter as kernels take it: one contiguous slab that a single copy brings to the device.

A slab holds a header and then, site by site, A ``[r, in]`` of all the site's targets one below another, and B
``[r_i, out_i]`` of each with the scale folded in; every matrix begins at a multiple of 256 bytes. The header holds for
each site int64 ``[4]``: where A and the Bs begin, in elements from the start of the slab; and int32 ``[4]``: the rank
at which each target's share of A begins, with the whole rank last. It becomes a slot's rows of the device's tables.
A target's rank is filled up with zeros to a multiple of 4, so that four shrunk numbers are read at once.

That is the form for a device. On a host A lies the other way round, ``[in, r]``, and ranks are filled up to multiples
of 8, so that a table of rows of 8 numbers holds any adapter's A (``lora.bags``).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor

from kindling_engine.lora.batch import AdapterWeights, SiteWeights
from kindling_engine.lora.sites import LoraLayout

MOST_TARGETS = 3
FIELDS = MOST_TARGETS + 1
ALIGNMENT = 256


@dataclass(frozen=True, slots=True)
class SlabForm:
    """Ranks are filled up to multiples of ``rank_step``; A is ``[in, r]`` if ``by_input``, and ``[r, in]`` else."""

    rank_step: int
    by_input: bool


DEVICE_FORM = SlabForm(4, by_input=False)
HOST_FORM = SlabForm(8, by_input=True)
RANK_STEP = DEVICE_FORM.rank_step


@dataclass(frozen=True, slots=True)
class SiteShape:
    """A site's input width and its targets' columns: from ``start`` on, ``widths`` side by side; none where nothing
    attaches.
    """

    in_features: int
    start: int
    widths: tuple[int, ...]

    @property
    def starts(self) -> tuple[int, ...]:
        return tuple(self.start + sum(self.widths[:index]) for index in range(len(self.widths)))


@dataclass(frozen=True, slots=True)
class PackedAdapter:
    """``slab`` uint8 ``[bytes]`` on the host, pinned where a GPU will read it; ``rank``: the most that a site has."""

    slab: Tensor
    rank: int


def site_shapes(layout: LoraLayout) -> tuple[SiteShape, ...]:
    """Every site's shape. Raises ValueError for targets that kernels do not take: more than three, or with gaps."""
    targets_of: dict[int, list[tuple[int, int, int]]] = {}
    for target in layout.targets.values():
        targets_of.setdefault(target.site, []).append((target.start, target.stop, target.in_features))
    shapes = []
    for site in range(layout.num_sites):
        targets = sorted(targets_of.get(site, ()))
        if not targets:
            shapes.append(SiteShape(0, 0, ()))
            continue
        joined = all(left[1] == right[0] for left, right in pairwise(targets))
        if len(targets) > MOST_TARGETS or not joined or len({width for _, _, width in targets}) > 1:
            raise ValueError(f"targets of site {site} cannot be fused: {targets}")
        widths = tuple(stop - start for start, stop, _ in targets)
        shapes.append(SiteShape(targets[0][2], targets[0][0], widths))
    return tuple(shapes)


def header_bytes(num_sites: int) -> tuple[int, int]:
    """Bytes of the header's offsets, and of the whole header."""
    offsets = num_sites * FIELDS * 8
    return offsets, aligned(offsets + num_sites * FIELDS * 4)


def adapter_pack(
    weights: AdapterWeights,
    shapes: Sequence[SiteShape],
    dtype: torch.dtype,
    *,
    pinned: bool,
    form: SlabForm = DEVICE_FORM,
) -> PackedAdapter:
    """A slab in ``dtype`` of weights in host memory; ``pinned`` memory is what a GPU can read beside its work.

    Raises ValueError for weights of another model, and for those that do more than ``plain`` ones.
    """
    if not weights.plain:
        raise ValueError("a slab holds products at the sites, and this adapter does more")
    if len(weights.sites) != len(shapes):
        raise ValueError(f"the adapter has {len(weights.sites)} sites, the model {len(shapes)}")
    offsets = torch.zeros(len(shapes), FIELDS, dtype=torch.int64)
    firsts = torch.zeros(len(shapes), FIELDS, dtype=torch.int32)
    offsets_end, position = header_bytes(len(shapes))
    pieces: list[tuple[int, Tensor]] = []
    for index, (site, shape) in enumerate(zip(weights.sites, shapes, strict=True)):
        if site is None:
            continue
        for field, matrix in _matrices(site, shape, firsts[index], form):
            offsets[index, field] = position // dtype.itemsize
            pieces.append((position, matrix))
            position += aligned(matrix.numel() * dtype.itemsize)
    slab = torch.empty(position, dtype=torch.uint8, pin_memory=pinned)
    slab[:offsets_end].view(torch.int64).copy_(offsets.view(-1))
    slab[offsets_end : offsets_end + firsts.nbytes].view(torch.int32).copy_(firsts.view(-1))
    for start, matrix in pieces:
        slab[start : start + matrix.numel() * dtype.itemsize].view(dtype).copy_(matrix.reshape(-1))
    return PackedAdapter(slab, int(firsts.max()) if len(shapes) else 0)


def _matrices(
    site: SiteWeights, shape: SiteShape, firsts: Tensor, form: SlabForm
) -> list[tuple[int, Tensor]]:
    """A and the Bs of the targets that are there, with their fields; ``firsts [4]`` is filled in.

    Ranks of A are put in the order of the columns that they go to.
    """
    found = {expand.start: expand for expand in site.expands}
    parts, matrices, rank = [], [], 0
    for index, (start, width) in enumerate(zip(shape.starts, shape.widths, strict=True)):
        firsts[index] = rank
        expand = found.pop(start, None)
        if expand is not None:
            if expand.stop - start != width or site.shrink.shape[1] != shape.in_features:
                raise ValueError(f"columns {start} to {expand.stop} are no target of the model")
            zeros = -(expand.last - expand.first) % form.rank_step
            parts.append(F.pad(site.shrink[expand.first : expand.last], (0, 0, 0, zeros)))
            matrices.append((index + 1, F.pad(expand.weight, (0, 0, 0, zeros))))
            rank += expand.last - expand.first + zeros
    if found:
        raise ValueError(f"columns from {min(found)} on are no target of the model")
    firsts[len(shape.widths) :] = rank
    shrink = torch.cat(parts)
    return [(0, shrink.t() if form.by_input else shrink), *matrices]


def aligned(size: int) -> int:
    """The next multiple of 256 bytes, which every matrix of a slab begins at."""
    return -(-size // ALIGNMENT) * ALIGNMENT
