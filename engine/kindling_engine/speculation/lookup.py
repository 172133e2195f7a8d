"""Guesses at the next tokens of a text: what followed its last ones where they stood before.

After prompt lookup decoding (Saxena, 2023): answers that quote, edit or repeat what is there are guessed without a
second model. A prediction that the client sends along is one more text to look into (OpenAI's "predicted outputs").
"""

import sys
from array import array
from collections.abc import Sequence
from dataclasses import dataclass

from kindling_engine.speculation.rates import Kind

_END_TOKENS = 3
"""How many last tokens have to stand elsewhere too."""
_FIRM_TOKENS = 8
"""With so many in common, what followed there is likely to follow here."""
_BORDER = chr(sys.maxunicode)
"""No token, as no vocabulary is that large: between the prediction and the text."""
_CODEC = "utf-32-le" if sys.byteorder == "little" else "utf-32-be"


@dataclass(frozen=True, slots=True)
class Guess:
    """``tokens`` that may come next, firm where much of what is before them is the same."""

    tokens: tuple[int, ...]
    kind: Kind


class TextLookup:
    """One request's text, prompt and answer, behind what it is predicted to become: a character for each token.

    A place that was found is followed for as long as the answer goes along with it, but for a token here and there.
    """

    __slots__ = ("_at", "_left", "_predicted", "_seen", "_sure", "_text")

    def __init__(self, prediction: Sequence[int] = ()) -> None:
        self._predicted = len(prediction)
        self._text = _characters(prediction) + _BORDER
        self._seen = 0
        # The place whose token may come next, None where none is known, and how far of the prediction has come.
        self._at: int | None = 0 if prediction else None
        self._left = 0
        self._sure = True

    def guess(self, tokens: Sequence[int], prompt_len: int, count: int) -> Guess | None:
        """Up to ``count`` tokens that may follow ``tokens``, which have only grown since the last call."""
        self._text += _characters(tokens[self._seen :])
        self._follow(tokens[max(self._seen, prompt_len) :])
        self._seen = len(tokens)
        if self._at is None:
            self._look()
        if self._at is None:
            return None
        return Guess(self._read(self._at, count), "firm" if self._sure else "loose")

    def _follow(self, made: Sequence[int]) -> None:
        """Go along by the tokens made since. Where one differs it may have taken the other's place; where the next one
        differs too, or where the prediction ends, the place is lost.
        """
        for token in made:
            if self._at is None:
                return
            if ord(self._text[self._at]) == token:
                self._at, self._sure = self._at + 1, True
                if self._at <= self._predicted:
                    self._left = self._at
            elif self._sure:
                self._at, self._sure = self._at + 1, False
            else:
                self._at = None
            self._stay_inside()

    def _look(self) -> None:
        """Find where the last tokens stood before: in the rest of the prediction, else wherever they did last."""
        if self._seen <= _END_TOKENS:
            return
        wanted = self._text[-_END_TOKENS:]
        found = self._text.find(wanted, self._left, max(0, self._predicted - 1))
        if found < 0:
            found = self._text.rfind(wanted, 0, len(self._text) - 1)
        if found >= 0:
            self._at = found + _END_TOKENS
            self._sure = self._at <= self._predicted or self._in_common(self._at)
            self._stay_inside()

    def _stay_inside(self) -> None:
        """Behind the end of the prediction stands the prompt, which does not follow it."""
        if self._at == self._predicted:
            self._at = None

    def _read(self, place: int, count: int) -> tuple[int, ...]:
        """Tokens from ``place`` on; behind the end of the text the same ones again, as in a text that repeats."""
        known, border, _ = self._text[place : place + count].partition(_BORDER)
        if not border:
            known = (known * count)[:count]
        return tuple(map(ord, known))

    def _in_common(self, place: int) -> bool:
        """Whether the tokens before ``place`` and before the end are the same ones, for long enough."""
        begin = place - _FIRM_TOKENS
        return begin >= 0 and self._text[begin:place] == self._text[-_FIRM_TOKENS:]


def _characters(tokens: Sequence[int]) -> str:
    return array("I", tokens).tobytes().decode(_CODEC, "surrogatepass")
