"""Keeps control tokens out of what people write: their letters stay, but they are read as letters."""

import re
from collections.abc import Iterable, Iterator
from typing import Any

# Characters for private use, which no text needs; the first that a request does not hold becomes its mark.
_MARKS = [chr(code) for code in range(0xE0F0, 0xE100)]


class SafeText:
    """Puts a mark inside every control token in a text; `parts` cuts the rendered prompt at these marks.

    A part is encoded by itself, so that no control token forms. Texts without control tokens are left as they are.
    """

    def __init__(self, tokens: Iterable[str], mark: str) -> None:
        wanted = sorted({token for token in tokens if len(token) > 1}, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, wanted))) if wanted else None
        self._mark = mark

    def guard(self, text: str) -> str:
        """The text with its control tokens cut in two."""
        if self._pattern is None:
            return text
        while self._pattern.search(text):
            text = self._pattern.sub(lambda found: f"{found[0][0]}{self._mark}{found[0][1:]}", text)
        return text

    def guard_message(self, message: dict[str, Any]) -> dict[str, Any]:
        """A message with every text in it guarded, but for its role."""
        return {key: one if key == "role" else self._guard_value(one) for key, one in message.items()}

    def parts(self, prompt: str) -> list[str]:
        return [part for part in prompt.split(self._mark) if part]

    def _guard_value(self, value: Any) -> Any:
        if isinstance(value, str):
            return self.guard(value)
        if isinstance(value, list):
            return [self._guard_value(one) for one in value]
        if isinstance(value, dict):
            return {self.guard(key): self._guard_value(one) for key, one in value.items()}
        return value


def mark_pick(messages: list[dict[str, Any]]) -> str | None:
    """A mark that occurs nowhere in the messages; None when they hold all of them."""
    left = list(_MARKS)
    for text in _texts(messages):
        left = [mark for mark in left if mark not in text]
    return left[0] if left else None


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for one in value:
            yield from _texts(one)
    elif isinstance(value, dict):
        yield from value
        for one in value.values():
            yield from _texts(one)
