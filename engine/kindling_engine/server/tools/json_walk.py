"""Follows one JSON value character by character, and says at once where it stops being JSON (RFC 8259)."""

import re

_SPACE = " \t\n\r"
_HEX = frozenset("0123456789abcdefABCDEF")
_SCALAR = frozenset("0123456789+-.eEtrufalsn")
_WHOLE_SCALAR = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?|true|false|null")
_PART_OF_NUMBER = re.compile(r"-?(?:(?:0|[1-9][0-9]*)(?:\.[0-9]*)?(?:(?<=[0-9])[eE][+-]?[0-9]*)?)?")
MAX_DEPTH = 200
MAX_SCALAR_CHARS = 1000
_WORDS = ("true", "false", "null")


class JsonWalk:
    """Feed characters until `done`, or until `feed` says no; what is nested deeper than 200 or has numbers of more than
    1,000 digits counts as no JSON. White space before and inside the value is fine.

    ``depth`` is the number of open objects and lists, and ``at`` what comes next: value, first_key, key, colon, comma,
    string, scalar or end. ``is_key`` tells the string that is open.
    """

    def __init__(self) -> None:
        self.at = "value"
        self.is_key = False
        self._open: list[str] = []
        self._first_of_list = False
        self._escape = 0  # characters that still belong to an escape; −1 right behind its backslash
        self._scalar = ""

    @property
    def depth(self) -> int:
        return len(self._open)

    @property
    def done(self) -> bool:
        return self.at == "end"

    def feed(self, char: str) -> bool:
        """Take one character; False when no JSON value goes on like this. A number ends at the next character."""
        match self.at:
            case "string":
                return self._in_string(char)
            case "scalar":
                if char in _SCALAR:
                    self._scalar += char
                    return len(self._scalar) <= MAX_SCALAR_CHARS and _may_be_scalar(self._scalar)
                if not _WHOLE_SCALAR.fullmatch(self._scalar):
                    return False
                self._end_value()
                return self.feed(char)
            case "end":
                return char in _SPACE
        return char in _SPACE or self._between(char)

    def _in_string(self, char: str) -> bool:
        if self._escape == -1:
            self._escape = 4 if char == "u" else 0
            return char in '"\\/bfnrtu'
        if self._escape:
            self._escape -= 1
            return char in _HEX
        if char == "\\":
            self._escape = -1
        elif char == '"':
            if self.is_key:
                self.at = "colon"
            else:
                self._end_value()
        return char >= " "

    def _between(self, char: str) -> bool:
        match self.at:
            case "value":
                return self._begin_value(char)
            case "first_key" | "key":
                if char == "}" and self.at == "first_key":
                    return self._close(char)
                self.at, self.is_key = "string", True
                return char == '"'
            case "colon":
                self.at = "value"
                return char == ":"
        if char == ",":
            self.at = "key" if self._open[-1] == "{" else "value"
            return True
        return self._close(char)

    def _begin_value(self, char: str) -> bool:
        first_of_list, self._first_of_list = self._first_of_list, False
        if char == "]" and first_of_list:
            return self._close(char)
        if char in "{[":
            self._open.append(char)
            self.at = "first_key" if char == "{" else "value"
            self._first_of_list = char == "["
            return len(self._open) <= MAX_DEPTH
        if char == '"':
            self.at, self.is_key = "string", False
            return True
        self.at, self._scalar = "scalar", char
        return char in _SCALAR and _may_be_scalar(char)

    def _close(self, char: str) -> bool:
        if not self._open or char != {"{": "}", "[": "]"}[self._open.pop()]:
            return False
        self._end_value()
        return True

    def _end_value(self) -> None:
        self.at = "comma" if self._open else "end"


def _may_be_scalar(text: str) -> bool:
    return any(word.startswith(text) for word in _WORDS) or bool(_PART_OF_NUMBER.fullmatch(text))
