"""Finds stop strings in text that arrives in parts, and holds back what may turn out to be one."""

from collections.abc import Sequence


class StopMatcher:
    """The first stop string to be completed wins, the longest of those that end at the same character.

    What comes out does not depend on where the parts were cut.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = sorted(set(stops), key=len, reverse=True)
        self._held = ""
        self.matched = ""

    @property
    def held_chars(self) -> int:
        return len(self._held)

    def feed(self, text: str) -> str:
        """The text that may leave now; after a match, the text in front of it, and `matched` is set."""
        known = len(self._held)
        self._held += text
        found = self._first_match(known)
        if found is not None:
            start, self.matched = found
            before, self._held = self._held[:start], ""
            return before
        keep = self._possible_beginning()
        free = len(self._held) - keep
        out, self._held = self._held[:free], self._held[free:]
        return out

    def flush(self) -> str:
        """The text that was held back, once no more will come."""
        out, self._held = self._held, ""
        return out

    def _first_match(self, known: int) -> tuple[int, str] | None:
        """(start, stop) of the match that ends first; none ends within the `known` characters."""
        best: tuple[int, int, str] | None = None
        for stop in self._stops:
            start = self._held.find(stop, max(0, known - len(stop) + 1))
            if start >= 0 and (best is None or (start + len(stop), start) < best[:2]):
                best = (start + len(stop), start, stop)
        return None if best is None else best[1:]

    def _possible_beginning(self) -> int:
        """Length of the longest end of the text that begins a stop string."""
        longest = 0
        for stop in self._stops:
            for size in range(min(len(stop) - 1, len(self._held)), longest, -1):
                if self._held.endswith(stop[:size]):
                    longest = size
                    break
        return longest
