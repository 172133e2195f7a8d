"""What a step of so many rows costs, learnt from the steps themselves."""

from bisect import bisect_left

_NEW_SHARE = 0.2
_MOST_GROWTH = 2.0
"""Of what is known by one step: a step that something else held up says little."""
_UNSEEN_SLOPE = 0.3
"""How a step grows with its rows where none has shown it: rows that read the same weights cost little."""
_DOUBTED = 0.001
"""What larger steps are thought to cost less with each smaller one: what once was dear is tried again some day."""


class StepCosts:
    """Seconds of steps by their number of rows, each row one token. Between what was seen a line is drawn."""

    def __init__(self) -> None:
        self._rows: list[int] = []
        self._seconds: list[float] = []

    def learn(self, rows: int, seconds: float) -> None:
        """A step of ``rows`` took ``seconds``."""
        rows = _rounded(rows)
        known = self.seconds(rows)
        if known is not None:
            seconds = min(seconds, known * _MOST_GROWTH)
        at = bisect_left(self._rows, rows)
        if at < len(self._rows) and self._rows[at] == rows:
            self._seconds[at] += _NEW_SHARE * (seconds - self._seconds[at])
        else:
            self._rows.insert(at, rows)
            self._seconds.insert(at, seconds)
        self._agree(at)

    def seconds(self, rows: int) -> float | None:
        """What a step of ``rows`` is expected to take; None before anything was seen."""
        if not self._rows:
            return None
        at = bisect_left(self._rows, rows)
        if at == 0:
            return self._seconds[0]
        before, took = self._rows[at - 1], self._seconds[at - 1]
        if at == len(self._rows):
            return took * (1 + _UNSEEN_SLOPE * (rows / before - 1))
        share = (rows - before) / (self._rows[at] - before)
        return took + share * (self._seconds[at] - took)

    def _agree(self, at: int) -> None:
        """A step never takes less than one of fewer rows: those around the newest one go by it."""
        newest = self._seconds[at]
        for index, seconds in enumerate(self._seconds):
            if index < at:
                self._seconds[index] = min(seconds, newest)
            elif index > at:
                self._seconds[index] = max(newest, seconds + _DOUBTED * (newest - seconds))


def _rounded(rows: int) -> int:
    """Numbers with two leading bits: few enough that each is seen often."""
    step = 1 << max(0, rows.bit_length() - 2)
    return -(-rows // step) * step
