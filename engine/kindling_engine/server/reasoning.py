"""Models that reason before they answer: how they mark it, and how many tokens of it there were."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tokenizers import Tokenizer

from kindling_engine.server.chat_template import ChatTemplate

_MARKS = (("<think>", "</think>"), ("[THINK]", "[/THINK]"))
# The names under which templates let reasoning be switched off.
_SWITCHES = ("enable_thinking", "thinking")


@dataclass(frozen=True, slots=True)
class ReasoningFamily:
    """The marks around reasoning, as text and as tokens. ``switch`` is the template's variable, where it has one;
    ``shows_special`` as for tools.
    """

    start: str
    end: str
    start_ids: tuple[int, ...]
    end_ids: tuple[int, ...]
    switch: str = ""
    shows_special: bool = False

    def opened(self, prompt: str) -> bool:
        """Whether the prompt ends inside reasoning that the answer goes on with."""
        return prompt.rstrip().endswith(self.start)

    def closed(self, prompt: str) -> bool:
        """Whether the prompt has gone through reasoning already, so that the answer has none."""
        return prompt.rstrip().endswith(self.end)


def reasoning_family_find(template: ChatTemplate, tokenizer: Tokenizer) -> ReasoningFamily | None:
    """The marks that the template writes around reasoning, None for a model that does not reason."""
    for start, end in _MARKS:
        if end in template.source:
            start_ids, start_special = _ids(tokenizer, start)
            end_ids, end_special = _ids(tokenizer, end)
            return ReasoningFamily(
                start=start,
                end=end,
                start_ids=start_ids,
                end_ids=end_ids,
                switch=next((name for name in _SWITCHES if name in template.names), ""),
                shows_special=start_special or end_special,
            )
    return None


class ReasoningCount:
    """Counts the tokens between the marks of reasoning, which are themselves not counted.

    White space in front of the first mark is passed over, as the text's reader does.
    """

    def __init__(self, family: ReasoningFamily, is_blank: Callable[[int], bool], *, opened: bool) -> None:
        self.tokens = 0
        self._start = list(family.start_ids)
        self._end = list(family.end_ids)
        self._is_blank = is_blank
        self._state = "inside" if opened else "before"
        self._seen: list[int] = []

    def feed(self, token_ids: Sequence[int]) -> None:
        """Take the next tokens of the answer in."""
        for token_id in token_ids:
            if self._state == "before":
                self._before(token_id)
            elif self._state == "inside":
                self._inside(token_id)

    def _before(self, token_id: int) -> None:
        if not self._seen and self._is_blank(token_id):
            return
        self._seen.append(token_id)
        if self._seen == self._start:
            self._state, self._seen = "inside", []
        elif self._seen != self._start[: len(self._seen)]:
            self._state = "behind"

    def _inside(self, token_id: int) -> None:
        self.tokens += 1
        self._seen = [*self._seen, token_id][-len(self._end) :]
        if self._seen == self._end:
            self.tokens -= len(self._end)
            self._state = "behind"


def _ids(tokenizer: Tokenizer, mark: str) -> tuple[tuple[int, ...], bool]:
    """A mark's tokens, and whether it is a special one."""
    number = tokenizer.token_to_id(mark)
    if number is None:
        return tuple(tokenizer.encode(mark, add_special_tokens=False).ids), False
    added = tokenizer.get_added_tokens_decoder()
    return (number,), number in added and added[number].special
