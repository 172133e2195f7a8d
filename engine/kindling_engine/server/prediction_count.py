"""How much of an answer its prediction had."""

from collections.abc import Sequence

_END_TOKENS = 3
"""So many last tokens of the answer have to stand in the prediction, for it to go on from there."""


class PredictionCount:
    """Counts the tokens of a prediction that an answer has, in their order, whether or not one was tried as a guess.

    ``tokens`` so far. One token that differs may have taken another's place; behind two the place is looked for.
    """

    def __init__(self, prediction: Sequence[int]) -> None:
        # A character for each token, so that to look for a few is a search in a text.
        self._predicted = "".join(map(chr, prediction))
        self._at: int | None = 0
        self._counted = 0
        self._differed = False
        self._last = ""
        self.tokens = 0

    def feed(self, token_id: int) -> None:
        """The answer's next token."""
        token = chr(token_id)
        self._last = (self._last + token)[-_END_TOKENS:]
        if self._at is None or self._at >= len(self._predicted):
            self._look()
        elif self._predicted[self._at] == token:
            self._at, self._differed = self._at + 1, False
            if self._at > self._counted:
                self._counted = self._at
                self.tokens += 1
        elif self._differed:
            self._at = None
            self._look()
        else:
            self._at, self._differed = self._at + 1, True

    def _look(self) -> None:
        found = -1 if len(self._last) < _END_TOKENS else self._predicted.find(self._last, self._counted)
        self._at, self._differed = (None, False) if found < 0 else (found + _END_TOKENS, False)
