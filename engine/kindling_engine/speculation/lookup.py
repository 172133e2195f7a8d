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
    """One request's text, prompt and answer, behind what it is predicted to become."""

    __slots__ = ("_answer", "_at", "_left", "_predicted", "_sure", "_text")

    def __init__(self, prediction: Sequence[int] = ()) -> None:
        self._text = bytearray(_packed([*prediction, _NOTHING] if prediction else ()))
        self._predicted = len(prediction)
        # Where in the prediction the answer has arrived; None where it has left it, which was at the other place.
        self._at: int | None = 0 if prediction else None
        self._left = 0
        self._sure = True
        self._answer = 0

    def guess(self, tokens: Sequence[int], prompt_len: int, count: int) -> Guess | None:
        """Up to ``count`` tokens that may follow ``tokens``, which have only grown since the last call."""
        begun = len(self._text) // _BYTES - self._shift
        self._text += _packed(tokens[begun:])
        if self._predicted:
            self._follow(tokens, prompt_len)
            if self._at is not None and self._at < self._predicted:
                return Guess(self._read(self._at, min(count, self._predicted - self._at)), firm=self._sure)
        return self._look(count)

    @property
    def _shift(self) -> int:
        """Where the text begins."""
        return self._predicted + (self._predicted > 0)

    def _follow(self, tokens: Sequence[int], prompt_len: int) -> None:
        """Go along in the prediction by the tokens made since. Where one differs it may have taken the other's place;
        where the next one differs too, look for where it goes on.
        """
        made = tokens[prompt_len + self._answer :]
        self._answer += len(made)
        for token in made:
            if self._at is None:
                break
            if self._at < self._predicted and self._read(self._at, 1)[0] == token:
                self._at, self._sure = self._at + 1, True
            elif self._sure:
                self._at, self._left, self._sure = self._at + 1, self._at, False
            else:
                self._at = None
        if self._at is None and self._answer >= _END_TOKENS:
            found = self._next(self._text[-_END_TOKENS * _BYTES :], self._left, self._predicted)
            if found is not None:
                self._at, self._sure = found + _END_TOKENS, True

    def _look(self, count: int) -> Guess | None:
        """What followed the text's last tokens where they stood before."""
        size = len(self._text) // _BYTES
        if size - self._shift <= _END_TOKENS:
            return None
        found = self._last(self._text[-_END_TOKENS * _BYTES :], size - 1)
        if found is None:
            return None
        guess = self._read(found + _END_TOKENS, count)
        return Guess(guess, firm=self._in_common(found + _END_TOKENS, size)) if guess else None

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
