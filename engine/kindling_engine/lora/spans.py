"""Which part of a pool belongs to whom: contiguous spans on a grid of pages, the tightest gap first."""

from bisect import insort


class Spans:
    """Takes and gives back spans of ``total`` pages; at most the rest of a page is wasted of each.

    The tightest gap that fits (Knuth, The Art of Computer Programming 1, 2.5) keeps large gaps whole, and adapters of
    a model come in a handful of sizes, so that what one leaves the next one fills.
    """

    def __init__(self, total: int) -> None:
        self._gaps: list[tuple[int, int]] = [(0, total)] if total else []

    @property
    def free(self) -> int:
        """Pages that belong to nobody."""
        return sum(count for _, count in self._gaps)

    @property
    def largest(self) -> int:
        """Pages of the largest gap."""
        return max((count for _, count in self._gaps), default=0)

    def take(self, count: int) -> int | None:
        """The first page of a span; None where no gap is as large."""
        fitting = [(size, first) for first, size in self._gaps if size >= count]
        if not fitting:
            return None
        size, first = min(fitting)
        self._gaps.remove((first, size))
        if size > count:
            insort(self._gaps, (first + count, size - count))
        return first

    def give(self, first: int, count: int) -> None:
        """Give back what ``take`` gave; joins the gaps beside it."""
        joined = []
        for gap, size in self._gaps:
            if gap + size == first:
                first, count = gap, count + size
            elif gap == first + count:
                count += size
            else:
                joined.append((gap, size))
        insort(joined, (first, count))
        self._gaps = joined
