"""Adapters of a step on a CPU: those with few rows in bags together, the others one by one."""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from kindling_engine.lora.bags import Bags, Seat
from kindling_engine.lora.batch import LoraBatch, LoraGroup
from kindling_engine.lora.slab_layout import SiteShape

# A bag reads an adapter anew for each of its rows; a product reads it once.
_FEW_ROWS = 4
# Below that many rows the bags' own overhead is more than they save.
_MANY_TOGETHER = 5
_KEPT = 4


@dataclass(frozen=True, slots=True)
class HostLoraBatch(LoraBatch):
    """``bags`` beside ``groups``; an adapter is in one of them."""

    bags: tuple[Bags, ...]

    def add(self, output: Tensor, x: Tensor, site: int) -> None:
        LoraBatch.add(self, output, x, site)
        for bags in self.bags:
            bags.add(output, x, site)


class HostLora:
    """Makes the batches of a pool of slabs in a CPU's memory; steady decode finds its bags again."""

    def __init__(self, pool: Tensor, shapes: Sequence[SiteShape]) -> None:
        self._pool = pool
        self._shapes = tuple(shapes)
        self._kept: OrderedDict[tuple[object, ...], Bags] = OrderedDict()

    def __call__(self, groups: tuple[LoraGroup, ...]) -> LoraBatch:
        """The batch of a step's groups."""
        alike: dict[bytes, list[LoraGroup]] = {}
        for group in groups:
            seat = group.weights.seat
            if seat is not None and _rows(group) <= _FEW_ROWS:
                alike.setdefault(seat.signature, []).append(group)
        chosen = [some for some in alike.values() if sum(map(_rows, some)) >= _MANY_TOGETHER]
        if not chosen:
            return LoraBatch(groups)
        taken = {id(group) for some in chosen for group in some}
        others = tuple(group for group in groups if id(group) not in taken)
        return HostLoraBatch(others, tuple(map(self._bags, chosen)))

    def _bags(self, groups: Sequence[LoraGroup]) -> Bags:
        placed: list[tuple[int, Seat]] = []
        for group in groups:
            if group.weights.seat is not None:
                placed += [
                    (row, group.weights.seat) for start, stop in group.spans for row in range(start, stop)
                ]
        placed.sort(key=lambda item: item[0])
        rows, seats = [row for row, _ in placed], [seat for _, seat in placed]
        # A seat lives as long as what it is kept for, so that its id belongs to nobody else.
        key = (tuple(rows), tuple(map(id, seats)))
        kept = self._kept.pop(key, None)
        if kept is None:
            kept = Bags(self._pool, self._shapes, rows, seats)
        self._kept[key] = kept
        if len(self._kept) > _KEPT:
            self._kept.popitem(last=False)
        return kept


def _rows(group: LoraGroup) -> int:
    return sum(stop - start for start, stop in group.spans)
