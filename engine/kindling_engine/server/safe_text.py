"""Keeps control tokens out of what people write: their letters stay, but they are read as letters."""

from collections.abc import Iterable, Iterator
from typing import Any

from kindling_engine.server.token_pattern import PREFIX_CHARS, token_pattern

# Characters for private use, which no text needs; the first that a request does not hold becomes its mark.
_MARKS = [chr(code) for code in range(0xE0F0, 0xE100)]
# Longer texts are searched bit by bit, since the interpreter is held while a pattern is looked for.
SLICE_CHARS = 32 * 1024


class SafeText:
    """Puts a mark inside every control token in a text; `parts` cuts the rendered prompt at these marks.

    A part is encoded by itself, so that no control token forms. Texts without control tokens are left as they are.
    """

    def __init__(self, tokens: Iterable[str], mark: str) -> None:
        self._pattern = token_pattern(frozenset(tokens))
        self._mark = mark
        self._marked = rf"\g<0>{mark}"

    def guard(self, text: str) -> str:
        """The text with its control tokens cut in two."""
        if self._pattern is None:
            return text
        if len(text) <= SLICE_CHARS:
            return self._pattern.sub(self._marked, text)
        return self._mark.join(self._cut(text))

    def guard_message(self, message: dict[str, Any]) -> dict[str, Any]:
        """A message with every text in it guarded, but for its role."""
        return {key: one if key == "role" else self.guard_value(one) for key, one in message.items()}

    def guard_value(self, value: Any) -> Any:
        """JSON with every text in it guarded. It must not be nested deeply."""
        if isinstance(value, str):
            return self.guard(value)
        if isinstance(value, list):
            return [self.guard_value(one) for one in value]
        if isinstance(value, dict):
            return {self.guard(key): self.guard_value(one) for key, one in value.items()}
        return value

    def parts(self, prompt: str) -> list[str]:
        return [part for part in prompt.split(self._mark) if part]

    def _cut(self, text: str) -> Iterator[str]:
        """The text in pieces, each of which ends behind the first character of a control token."""
        assert self._pattern
        begun = 0
        for start in range(0, len(text), SLICE_CHARS):
            end = start + SLICE_CHARS
            for found in self._pattern.finditer(text, start, end + PREFIX_CHARS):
                if found.start() >= end:
                    break
                yield text[begun : found.end()]
                begun = found.end()
        yield text[begun:]


def mark_pick(*values: Any) -> str | None:
    """A mark that occurs nowhere in the values, which are JSON; None when they hold all of them."""
    left = list(_MARKS)
    for text in _texts(list(values)):
        left = [mark for mark in left if mark not in text]
    return left[0] if left else None


def _texts(value: Any) -> Iterator[str]:
    """Every text in a value, found without recursion."""
    rest = [value]
    while rest:
        one = rest.pop()
        if isinstance(one, str):
            yield one
        elif isinstance(one, list):
            rest += one
        elif isinstance(one, dict):
            rest += one
            rest += one.values()
