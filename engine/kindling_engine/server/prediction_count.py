"""How much of an answer its prediction had."""

from collections.abc import Sequence

from kindling_engine.speculation.lookup import TextLookup


class PredictionCount:
    """Counts the tokens of a prediction that an answer has, by the places at which guesses would be looked up; whether
    one was tried makes no difference.
    """

    def __init__(self, prediction: Sequence[int]) -> None:
        self._lookup = TextLookup(prediction)
        self._made: list[int] = []

    @property
    def tokens(self) -> int:
        return self._lookup.came

    def feed(self, token_id: int) -> None:
        """The answer's next token."""
        self._made.append(token_id)
        self._lookup.guess(self._made, 0, 1)
