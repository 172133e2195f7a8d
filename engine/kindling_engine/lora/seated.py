"""Adapters of a step on a CPU whose every adapter lies in the pool, for code that takes whole layers at once."""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field

from torch import Tensor

from kindling_engine.jit.adapters import AdapterRows, Site, Tables
from kindling_engine.lora.batch import LoraBatch, LoraGroup
from kindling_engine.lora.host import HostLora
from kindling_engine.lora.slab_layout import SiteShape

_KEPT = 4


@dataclass(frozen=True, slots=True)
class SeatedLoraBatch(LoraBatch):
    """As the batch that ``HostLora`` makes of the groups, which is made if a site asks for it."""

    maker: "SeatedLora"
    _plain: list[LoraBatch] = field(init=False, default_factory=list, compare=False)

    def add(self, output: Tensor, x: Tensor, site: int) -> None:
        if not self._plain:
            self._plain.append(HostLora.__call__(self.maker, self.groups))
        self._plain[0].add(output, x, site)

    def seated(self, rows: int) -> AdapterRows | None:
        return self.maker.rows_of(self.groups, rows)


class SeatedLora(HostLora):
    """Makes the batches of a pool; steady decode finds its rows again."""

    def __init__(self, pool: Tensor, shapes: Sequence[SiteShape]) -> None:
        super().__init__(pool, shapes)
        self._sites = tuple(Site(one.in_features, one.starts, one.widths) for one in shapes)
        self._rows: OrderedDict[tuple[object, ...], tuple[AdapterRows, tuple[LoraGroup, ...]]] = OrderedDict()

    def __call__(self, groups: tuple[LoraGroup, ...]) -> LoraBatch:
        if any(group.weights.seat is None for group in groups):
            return super().__call__(groups)
        return SeatedLoraBatch(groups, self)

    def rows_of(self, groups: tuple[LoraGroup, ...], rows: int) -> AdapterRows:
        """The step's ``rows``; all groups have a seat."""
        # Seats live as long as the rows that are kept for them, so that their ids belong to nobody else.
        key = (rows, *((group.spans, id(group.weights.seat)) for group in groups))
        found = self._rows.pop(key, None)
        if found is None:
            tables: list[Tables | None] = [None] * rows
            for group in groups:
                seat = group.weights.seat
                for start, stop in group.spans:
                    tables[start:stop] = [None if seat is None else (seat.offsets, seat.firsts)] * (
                        stop - start
                    )
            found = AdapterRows(self._pool, self._sites, tables), groups
        self._rows[key] = found
        if len(self._rows) > _KEPT:
            self._rows.popitem(last=False)
        return found[0]
