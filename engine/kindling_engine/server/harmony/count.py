"""Counts the tokens of reasoning in an answer: those of the messages that are told as such, marks and headers not."""

from collections.abc import Callable, Collection, Sequence

from kindling_engine.server.harmony.marks import Harmony
from kindling_engine.server.harmony.parser import HarmonyParser


class HarmonyCount:
    """``names`` are the tools that were offered; ``token_text`` gives one token's text."""

    def __init__(self, harmony: Harmony, names: Collection[str], token_text: Callable[[int], str]) -> None:
        self.tokens = 0
        self._marks = harmony.marks
        self._token_text = token_text
        self._parser = HarmonyParser(names)

    def feed(self, token_ids: Sequence[int]) -> None:
        """Take the next tokens of the answer in."""
        for token_id in token_ids:
            if mark := self._marks.get(token_id):
                self._parser.feed(mark)
                continue
            if self._parser.at == "header":
                self._parser.feed(self._token_text(token_id))
            self.tokens += self._parser.at == "reasoning"
