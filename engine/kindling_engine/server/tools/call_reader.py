"""Reads one JSON object that describes a call, and gives its arguments out while they still arrive."""

import json
from collections.abc import Collection
from enum import Enum
from typing import Any

from kindling_engine.server.tools.json_walk import JsonWalk

NAME_KEYS = ("name",)
ARGUMENT_KEYS = ("arguments", "parameters")
# Other keys that models write beside these.
OTHER_KEYS = ("type", "id")


class Reading(Enum):
    """How far a call has come. BAD: it is not one. BROKEN: its arguments had begun and are not JSON."""

    GOING = "going"
    DONE = "done"
    BAD = "bad"
    BROKEN = "broken"


class CallReader:
    """Feed characters while `state` is GOING; the first one that is not white space must open the object.

    ``name`` is set once the call has proved to be one, and ``fresh`` collects the text of its arguments from then on.
    When the object goes wrong behind complete arguments, the call counts as done and ``rest`` holds what was read too
    much. ``names`` are the only ones that count.
    """

    def __init__(self, names: Collection[str]) -> None:
        self.state = Reading.GOING
        self.name = ""
        self.fresh = ""
        self.rest = ""
        self._names = names
        self._walk = JsonWalk()
        self._text = ""
        self._start = 0  # where the open key or value begins
        self._key = ""
        self._found: dict[str, Any] = {}
        self._in_arguments = False
        self._complete = False

    @property
    def unfinished(self) -> bool:
        """Whether arguments have begun and not ended; what may be missing behind them changes nothing."""
        return bool(self.name) and self.state is Reading.GOING and not self._complete

    def feed(self, char: str) -> None:
        """Take one more character."""
        before, depth = self._walk.at, self._walk.depth
        if not self._walk.feed(char) or (before == "value" and not depth and char not in "{ \t\r\n"):
            self._go_wrong(char)
            return
        if self._in_arguments:
            self.fresh += char
        elif self._complete:
            self.rest += char
        if not self._in_arguments:  # they may be long, and have left already
            self._text += char
        if self._walk.done:
            self._finish()
        elif depth == 1 or self._walk.depth == 1:
            self._at_top(before, depth, char)

    def _at_top(self, before: str, depth: int, char: str) -> None:
        now, here = self._walk.at, len(self._text) - 1
        if now == "string" and before != "string" and self._walk.is_key:
            self._start = here
        elif now == "colon" and before == "string":
            self._key = json.loads(self._text[self._start :])
            again = ARGUMENT_KEYS if self._key in ARGUMENT_KEYS else (self._key,)
            known = self._key in (*NAME_KEYS, *ARGUMENT_KEYS, *OTHER_KEYS)
            if not known or any(key in self._found for key in again):
                self._go_wrong("")
        elif before == "value" and depth == 1 and not char.isspace():
            self._start = here
            self._begin_value(char)
        closed = depth == 2 and self._walk.depth == 1
        if closed or (depth == 1 and before == "string" and now == "comma"):
            self._end_value(self._text[self._start :])
        elif depth == 1 and before == "scalar" and now != "scalar":
            self._end_value(self._text[self._start : here])

    def _begin_value(self, char: str) -> None:
        if self._key in ARGUMENT_KEYS and char == "{" and self._found.get("name"):
            self._in_arguments = True
            self.name = self._found["name"]
            self.fresh = char

    def _end_value(self, text: str) -> None:
        if self._in_arguments:
            self._in_arguments, self._complete = False, True
            self._found[self._key] = None
            return
        value = json.loads(text)
        if self._key in NAME_KEYS and not self._is_name(value):
            self._go_wrong("")
        self._found[self._key] = (value, text) if self._key in ARGUMENT_KEYS else value

    def _is_name(self, value: Any) -> bool:
        if not isinstance(value, str) or not value or not _is_text(value):
            return False
        return value in self._names

    def _finish(self) -> None:
        if self._walk_closed_value():
            return
        self.state = Reading.DONE
        self.rest = ""
        if self._complete:
            return
        arguments = next((self._found[key] for key in ARGUMENT_KEYS if key in self._found), (None, "{}"))
        text = _argument_text(*arguments)
        if not self._found.get("name") or text is None:
            self.state = Reading.BAD
            return
        self.name, self.fresh = self._found["name"], text

    def _walk_closed_value(self) -> bool:
        """A number or word ends together with the object; True when that made the call a bad one."""
        if self._key and self._key not in self._found:
            self._end_value(self._text[self._start : -1].rstrip())
        return self.state is not Reading.GOING

    def _go_wrong(self, char: str) -> None:
        if self._complete:
            self.state = Reading.DONE
            self.rest += char
        elif self._in_arguments:
            self.state = Reading.BROKEN
            self.fresh += char
        else:
            self.state = Reading.BAD


def _argument_text(value: Any, text: str) -> str | None:
    """Arguments as the text of an object: some models write none, or put the object into a string."""
    if value is None:
        return "{}"
    if isinstance(value, dict):
        return text
    if not isinstance(value, str):
        return None
    try:
        inner = json.loads(value)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(inner, dict) and _is_text(value) else None


def _is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:  # half a surrogate pair, escaped
        return False
    return True
