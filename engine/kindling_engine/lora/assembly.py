"""Makes weights that are ready to run of an adapter's matrices: targets fused per site, experts stacked."""

import re
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from kindling_engine.lora.batch import AdapterWeights, Expand, SiteWeights, TableWeights
from kindling_engine.lora.experts import ExpertPair, ExpertWeights
from kindling_engine.lora.reader import Factors
from kindling_engine.lora.sites import LoraLayout
from kindling_engine.protocol.adapter_base import DOWN, GATE_UP, ExpertShape
from kindling_engine.protocol.adapter_parts import TABLE, Part

_PADDING = 8  # grouped products want rows of 16 bytes
_EXPERT_PART = re.compile(r"(.+\.experts)\.(?:([0-9]+)\.)?([a-z_]+)")

Read = Callable[[Part], Factors]
Send = Callable[[Tensor], Tensor]


class Assembler:
    """The parts of an adapter by where they go in a layout; each has been checked to have a place there."""

    def __init__(self, parts: Sequence[Part], layout: LoraLayout) -> None:
        self._layout = layout
        self._rank = max(part.rank for part in parts)
        self._table: Part | None = None
        self._head: Part | None = None
        self._sites: dict[int, list[Part]] = {}
        self._experts: dict[tuple[str, str], list[Part]] = {}
        by_path = {part.path: part for part in parts}
        # In the layout's order, which is that of a site's columns.
        for path, target in layout.targets.items():
            if path in by_path:
                self._sites.setdefault(target.site, []).append(by_path.pop(path))
        for path, part in by_path.items():
            expert = _EXPERT_PART.fullmatch(path)
            if part.kind == TABLE:
                self._table = part
            elif expert is not None and expert[1] in layout.mixtures:
                name = DOWN if expert[3] == DOWN else GATE_UP
                self._experts.setdefault((expert[1], name), []).append(part)
            else:
                self._head = part

    @property
    def plain(self) -> bool:
        """As ``AdapterWeights.plain`` of what ``make`` gives."""
        if self._table is not None or self._head is not None or self._experts:
            return False
        return not any(part.magnitude for parts in self._sites.values() for part in parts)

    def size_bytes(self, dtype: torch.dtype) -> int:
        """Of what ``make`` gives, with room for the offsets of DoRA whether or not the base has a bias."""
        layout, numbers = self._layout, 0
        linears = layout.linears()
        single = [part for parts in self._sites.values() for part in parts]
        for part in [*single, *filter(None, (self._head, self._table))]:
            width_in, width_out = linears.get(part.path) or (layout.table or ("", (0, 0)))[1]
            numbers += part.rank * (width_in + width_out) + (2 * width_out if part.magnitude else 0)
        for (mixture, name), parts in self._experts.items():
            shape = layout.mixtures[mixture].shape
            widths = shape.parameter(name)
            gains = widths[1] if any(part.magnitude for part in parts) else 0
            numbers += shape.count * (_padded_rank(parts) * sum(widths) + gains)
        return numbers * dtype.itemsize

    def make(self, read: Read, device: torch.device, dtype: torch.dtype) -> AdapterWeights:
        """Read every part once, and convert it."""
        layout = self._layout

        def send(tensor: Tensor) -> Tensor:
            return tensor.to(device=device, dtype=dtype).contiguous()

        sites: list[SiteWeights | None] = [None] * layout.num_sites
        for site, parts in self._sites.items():
            targets = [layout.targets[part.path] for part in parts]
            columns = [(target.start, target.stop) for target in targets]
            sites[site] = _fuse([read(part) for part in parts], columns, send)
        head = None
        if self._head is not None and layout.head is not None:
            head = _fuse([read(self._head)], [(0, layout.head[1][1])], send)
        table = None if self._table is None else _table(read(self._table), send)
        experts: dict[int, ExpertWeights] = {}
        for path in dict.fromkeys(path for path, _ in self._experts):
            mixture = layout.mixtures[path]
            gate_up, down = (
                _stack(self._experts[path, name], name, mixture.shape, read, send)
                if (path, name) in self._experts
                else None
                for name in (GATE_UP, DOWN)
            )
            experts[mixture.layer] = ExpertWeights(mixture.shape.count, gate_up, down)
        return AdapterWeights(
            tuple(sites), self.size_bytes(dtype), self._rank, table=table, head=head, experts=experts
        )


def _fuse(factors: Sequence[Factors], columns: Sequence[tuple[int, int]], send: Send) -> SiteWeights:
    """Stack the A of a site's targets, so that they shrink in one product; keep each B apart."""
    expands, first = [], 0
    for one, (start, stop) in zip(factors, columns, strict=True):
        last = first + one.a.shape[0]
        gain, offset = (None if part is None else send(part) for part in (one.gain, one.offset))
        expands.append(Expand(first, last, start, stop, send(one.b.t()), gain, offset))
        first = last
    return SiteWeights(torch.cat([send(one.a) for one in factors]), tuple(expands))


def _table(factors: Factors, send: Send) -> TableWeights:
    gain = None if factors.gain is None else send(factors.gain)
    return TableWeights(send(factors.a.t()), send(factors.b), gain)


def _stack(parts: Sequence[Part], name: str, shape: ExpertShape, read: Read, send: Send) -> ExpertPair:
    """One parameter of all experts; experts without a part have zeros."""
    width_in, width_out = shape.parameter(name)
    rank = _padded_rank(parts)
    like = send(torch.empty(0))
    shrink, expand = like.new_zeros(shape.count, rank, width_in), like.new_zeros(shape.count, width_out, rank)
    gain = like.new_ones(shape.count, width_out) if any(part.magnitude for part in parts) else None
    used = [0] * shape.count
    for part in parts:
        factors, expert = read(part), _EXPERT_PART.fullmatch(part.path)
        if expert is None or expert[2] is None:
            shrink[:, : part.rank] = send(factors.a.view(shape.count, part.rank, width_in))
            rows = factors.b
            if name == GATE_UP and shape.interleaved:
                rows = torch.cat((rows[0::2], rows[1::2]))
            expand[:, :, : part.rank] = send(rows.view(width_out, part.rank, -1).permute(2, 0, 1))
            continue
        index, first = int(expert[2]), used[int(expert[2])]
        used[index] += part.rank
        out = factors.b.shape[0]
        start = width_out - out if expert[3] == "up_proj" else 0
        columns = slice(start, start + out)
        shrink[index, first : used[index]] = send(factors.a)
        expand[index, columns, first : used[index]] = send(factors.b)
        if gain is not None and factors.gain is not None:
            gain[index, columns] = send(factors.gain)
    return ExpertPair(shrink, expand, gain)


def _padded_rank(parts: Sequence[Part]) -> int:
    """Of the expert with the most ranks; gate and up of one expert are side by side."""
    ranks: dict[str, int] = {}
    for part in parts:
        owner = part.path.rsplit(".", 1)[0]
        ranks[owner] = ranks.get(owner, 0) + part.rank
    return -(-max(ranks.values()) // _PADDING) * _PADDING
