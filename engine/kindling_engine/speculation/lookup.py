"""Guesses at the next tokens of a text: what followed its last ones where they stood before.

After prompt lookup decoding (Saxena, 2023): answers that quote, edit or repeat what is there are guessed without a
second model. A prediction that the client sends along is one more text to look into (OpenAI's "predicted outputs").
"""

from array import array
from collections.abc import Sequence
from dataclasses import dataclass

_END_TOKENS = 3
"""How many last tokens have to stand elsewhere too."""
_FIRM_TOKENS = 8
"""With so many in common, what followed there is likely to follow here."""
_NOTHING = -1
"""No token: between the prediction and the text."""
_BYTES = 4


@dataclass(frozen=True, slots=True)
class Guess:
    """``tokens`` that may come next; ``firm`` where much of what is before them is the same."""

    tokens: tuple[int, ...]
    firm: bool


class TextLookup:
    """One request's text, prompt and answer, behind what it is predicted to become.

    A place that was found is followed for as long as the answer goes along with it, but for a token here and there.
    """

    __slots__ = ("_at", "_left", "_predicted", "_seen", "_sure", "_text")

    def __init__(self, prediction: Sequence[int] = ()) -> None:
        self._predicted = len(prediction)
        self._text = bytearray(_packed([*prediction, _NOTHING] if prediction else ()))
        self._seen = 0
        # The place whose token may come next, None where none is known, and how far of the prediction has come.
        self._at: int | None = 0 if prediction else None
        self._left = 0
        self._sure = True

    def guess(self, tokens: Sequence[int], prompt_len: int, count: int) -> Guess | None:
        """Up to ``count`` tokens that may follow ``tokens``, which have only grown since the last call."""
        self._text += _packed(tokens[self._seen :])
        self._follow(tokens[max(self._seen, prompt_len) :])
        self._seen = len(tokens)
        found = self._read(self._at, count) if self._at is not None else ()
        if not found:
            self._look()
            found = self._read(self._at, count) if self._at is not None else ()
        return Guess(found, self._sure) if found else None

    def _follow(self, made: Sequence[int]) -> None:
        """Go along by the tokens made since. Where one differs it may have taken the other's place; where the next one
        differs too, the place is lost.
        """
        for token in made:
            if self._at is None:
                return
            if self._read(self._at, 1) == (token,):
                self._at, self._sure = self._at + 1, True
                if self._at <= self._predicted:
                    self._left = self._at
            elif self._sure:
                self._at, self._sure = self._at + 1, False
            else:
                self._at = None

    def _look(self) -> None:
        """Find where the last tokens stood before: in the rest of the prediction, else wherever they did last."""
        self._at, size = None, len(self._text) // _BYTES
        if self._seen <= _END_TOKENS:
            return
        wanted = self._text[-_END_TOKENS * _BYTES :]
        found = self._next(wanted, self._left, max(0, self._predicted - 1))
        if found is None:
            found = self._last(wanted, size - 1)
        if found is not None:
            self._at = found + _END_TOKENS
            self._sure = self._at <= self._predicted or self._in_common(self._at, size)

    def _next(self, wanted: bytearray, begin: int, end: int) -> int | None:
        """The first place from ``begin`` on where ``wanted`` stands before ``end``, all in tokens."""
        start = begin * _BYTES
        while (found := self._text.find(wanted, start, end * _BYTES)) >= 0:
            if found % _BYTES == 0:
                return found // _BYTES
            start = found + 1
        return None

    def _last(self, wanted: bytearray, end: int) -> int | None:
        """The last place where ``wanted`` stands before ``end``."""
        limit = end * _BYTES
        while (found := self._text.rfind(wanted, 0, limit)) >= 0:
            if found % _BYTES == 0:
                return found // _BYTES
            limit = found + len(wanted) - 1
        return None

    def _read(self, place: int, count: int) -> tuple[int, ...]:
        """Tokens from ``place`` on; behind the end of the text the same ones again, as in a text that repeats."""
        known = array("i", bytes(self._text[place * _BYTES : (place + count) * _BYTES]))
        found = list(known)
        while 0 < len(found) < count:
            found.append(found[len(found) - len(known)])
        return tuple(found[: found.index(_NOTHING)] if _NOTHING in found else found)

    def _in_common(self, place: int, size: int) -> bool:
        """Whether the tokens before ``place`` and before the end are the same ones, for long enough."""
        length = _FIRM_TOKENS * _BYTES
        begin, end = place * _BYTES, size * _BYTES
        return begin >= length and self._text[begin - length : begin] == self._text[end - length : end]


def _packed(tokens: Sequence[int]) -> bytes:
    return array("i", tokens).tobytes()
