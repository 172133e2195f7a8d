"""Finds stop strings in text that arrives in parts, and holds back what may turn out to be one."""

from collections.abc import Sequence
from functools import lru_cache


class StopMatcher:
    """The first stop string to be completed wins, the longest of those that end at the same character.

    What comes out does not depend on where the parts were cut. Each stop string knows how much of it the text ends
    with, so that a character costs the same whatever was written before it.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = [(stop, _fallbacks(stop)) for stop in sorted(set(stops), key=len, reverse=True)]
        self._sizes = [0] * len(self._stops)
        self._held = ""
        self.matched = ""

    @property
    def held_chars(self) -> int:
        return len(self._held)

    def feed(self, text: str) -> str:
        """The text that may leave now; after a match, the text in front of it, and `matched` is set."""
        known = len(self._held)
        self._held += text
        found = self._first_match(text)
        if found is not None:
            end, self.matched = found
            before = self._held[: known + end - len(self.matched)]
            self.flush()
            return before
        free = len(self._held) - max(self._sizes, default=0)
        out, self._held = self._held[:free], self._held[free:]
        return out

    def flush(self) -> str:
        """The text that was held back, once no more will come."""
        out, self._held = self._held, ""
        self._sizes = [0] * len(self._stops)
        return out

    def _first_match(self, text: str) -> tuple[int, str] | None:
        """(end in this text, stop) of the match that ends first, the longest one of several."""
        best: tuple[int, str] | None = None
        for index, (stop, fallbacks) in enumerate(self._stops):
            # A shorter stop string must end earlier to come before one that was found.
            until = len(text) if best is None else best[0] - 1
            size, end = _advance(stop, fallbacks, self._sizes[index], text, until)
            if size == len(stop):
                best = (end, stop)
            self._sizes[index] = size
        return best


def _advance(stop: str, fallbacks: Sequence[int], size: int, text: str, until: int) -> tuple[int, int]:
    """How much of a stop string the text ends with after at most ``until`` characters, and how many were read.

    It ends early when the stop string is complete.
    """
    for place in range(until):
        char = text[place]
        while size and stop[size] != char:
            size = fallbacks[size]
        if stop[size] == char:
            size += 1
            if size == len(stop):
                return size, place + 1
    return size, until


@lru_cache(maxsize=256)
def _fallbacks(stop: str) -> tuple[int, ...]:
    """For each beginning of a stop string, by its length, the longest shorter one that it ends with."""
    found = [0, 0]
    for size in range(1, len(stop)):
        shorter = found[size]
        while shorter and stop[shorter] != stop[size]:
            shorter = found[shorter]
        found.append(shorter + 1 if stop[shorter] == stop[size] else 0)
    return tuple(found)
