"""Reads the regular expressions of PEFT's configurations into a tree, as far as they can be matched in bounded time.

Python's syntax: literals, classes, groups, alternatives, repeats, anchors, word boundaries, looking ahead. Whatever
remembers what it has matched or looks behind is refused by name, and so is an expression that is large.
"""

from dataclasses import dataclass

MAX_CHARS = 4096
_MAX_DEPTH = 40
_MAX_REPEATS = 1000
_ASCII = frozenset(map(chr, range(128)))
_DIGITS = frozenset("0123456789")
WORD = frozenset("_0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
_SPACE = frozenset(" \t\n\r\f\v")
_CLASSES = {
    "d": _DIGITS, "D": _ASCII - _DIGITS, "w": WORD, "W": _ASCII - WORD, "s": _SPACE, "S": _ASCII - _SPACE,
}  # fmt: skip
_CONTROLS = {"n": "\n", "t": "\t", "r": "\r", "f": "\f", "v": "\v"}
_ANCHORS = {"b": "boundary", "B": "inside", "A": "start", "Z": "end"}


class PatternRefused(ValueError):
    """The expression is not one that is matched here; the text says why."""


@dataclass(frozen=True, slots=True)
class OneOf:
    """Any one of these characters; names are ASCII, so others do not matter."""

    characters: frozenset[str]


@dataclass(frozen=True, slots=True)
class Sequence:
    parts: "tuple[Node, ...]"


@dataclass(frozen=True, slots=True)
class Either:
    choices: "tuple[Node, ...]"


@dataclass(frozen=True, slots=True)
class Repeat:
    """``most`` None has no end. Greedy or lazy makes no difference to whether there is a match."""

    body: "Node"
    least: int
    most: int | None


@dataclass(frozen=True, slots=True)
class Anchor:
    """A place: ``start``, ``end``, ``boundary`` of a word, or ``inside``, which is none."""

    kind: str


@dataclass(frozen=True, slots=True)
class Ahead:
    """What follows begins with ``body``, or does not."""

    body: "Node"
    wanted: bool


Node = OneOf | Sequence | Either | Repeat | Anchor | Ahead


def pattern_parse(text: str) -> Node:
    """The tree of an expression. Raises PatternRefused."""
    if len(text) > MAX_CHARS:
        raise PatternRefused(f"it is longer than {MAX_CHARS} characters")
    if not text.isascii():
        raise PatternRefused("it holds characters that no module's name has")
    reader = _Reader(text)
    tree = reader.either(0)
    if reader.at < len(text):
        raise PatternRefused("a parenthesis is closed that was not opened")
    return tree


class _Reader:
    """Recursive descent; ``at`` is the next character."""

    def __init__(self, text: str) -> None:
        self._text = text
        self.at = 0

    def either(self, depth: int) -> Node:
        if depth > _MAX_DEPTH:
            raise PatternRefused("its parentheses are nested too deeply")
        choices = [self._sequence(depth)]
        while self._taken("|"):
            choices.append(self._sequence(depth))
        return choices[0] if len(choices) == 1 else Either(tuple(choices))

    def _sequence(self, depth: int) -> Node:
        parts: list[Node] = []
        while self.at < len(self._text) and self._text[self.at] not in "|)":
            parts.append(self._repeated(self._atom(depth)))
        return Sequence(tuple(parts))

    def _atom(self, depth: int) -> Node:
        char = self._next()
        if char == "(":
            return self._group(depth)
        if char == "[":
            return self._class()
        if char == "\\":
            return self._escaped()
        if char in "*+?" or (char == "{" and self._bounds(self.at) is not None):
            raise PatternRefused(f"{char!r} repeats nothing")
        if char == ".":
            return OneOf(_ASCII - {"\n"})
        if char in "^$":
            return Anchor("start" if char == "^" else "end")
        return OneOf(frozenset(char))

    def _group(self, depth: int) -> Node:
        wanted: bool | None = None
        if self._taken("?"):
            kind = self._next()
            if kind == "P" and self._taken("<"):
                end = self._text.find(">", self.at)
                if end < 0 or not self._text[self.at : end].isidentifier():
                    raise PatternRefused("the name of a group is not one")
                self.at = end + 1
            elif kind in "=!":
                wanted = kind == "="
            elif kind != ":":
                raise PatternRefused(f"groups that begin with '(?{kind}' are not served")
        body = self.either(depth + 1)
        if not self._taken(")"):
            raise PatternRefused("a parenthesis is not closed")
        return body if wanted is None else Ahead(body, wanted)

    def _repeated(self, node: Node) -> Node:
        bounds = self._bounds_here()
        if bounds is None:
            return node
        if isinstance(node, Anchor | Ahead):
            raise PatternRefused("an anchor is repeated")
        self._taken("?")
        if self._text[self.at : self.at + 1] == "+" or self._bounds_here() is not None:
            raise PatternRefused("a repeat is repeated")
        return Repeat(node, *bounds)

    def _bounds_here(self) -> tuple[int, int | None] | None:
        char = self._text[self.at : self.at + 1]
        simple: dict[str, tuple[int, int | None]] = {"*": (0, None), "+": (1, None), "?": (0, 1)}
        if char in simple:
            self.at += 1
            return simple[char]
        found = self._bounds(self.at + 1) if char == "{" else None
        if found is None:
            return None
        least, most, self.at = found
        if max(least, most or 0) > _MAX_REPEATS or (most is not None and most < least):
            raise PatternRefused(f"it repeats more than {_MAX_REPEATS} times, or from more to fewer")
        return least, most

    def _bounds(self, start: int) -> tuple[int, int | None, int] | None:
        """Of ``{m}``, ``{m,}``, ``{,n}`` and ``{m,n}`` the bounds and the place behind; None: the brace is a brace."""
        end = self._text.find("}", start, start + 12)
        left, comma, right = self._text[start : max(end, start)].partition(",")
        if end < 0 or not (left or right) or not all(part.isdigit() for part in (left, right) if part):
            return None
        least = int(left or 0)
        return least, (int(right) if right else None) if comma else least, end + 1

    def _escaped(self) -> Node:
        char = self._next()
        if char in _ANCHORS:
            return Anchor(_ANCHORS[char])
        return OneOf(self._escape_class(char))

    def _escape_class(self, char: str) -> frozenset[str]:
        if char in _CLASSES:
            return _CLASSES[char]
        if char in _CONTROLS:
            return frozenset(_CONTROLS[char])
        if char.isalnum():
            raise PatternRefused(f"'\\{char}' is not served")
        return frozenset(char)

    def _class(self) -> Node:
        inverted = self._taken("^")
        found: set[str] = set()
        first = True
        while first or not self._taken("]"):
            first = False
            low, single = self._class_item()
            if single and self._text[self.at : self.at + 1] == "-" and self._text[self.at + 1 :][:1] != "]":
                self.at += 1
                high, also_single = self._class_item()
                if not also_single or max(high) < max(low):
                    raise PatternRefused("a range in brackets is not one")
                low = frozenset(map(chr, range(ord(max(low)), ord(max(high)) + 1)))
            found |= low
        return OneOf(_ASCII - found if inverted else frozenset(found))

    def _class_item(self) -> tuple[frozenset[str], bool]:
        """The characters, and whether they are a single one that a range may begin with."""
        char = self._next()
        if char != "\\":
            return frozenset(char), True
        char = self._next()
        return self._escape_class(char), char not in _CLASSES

    def _taken(self, char: str) -> bool:
        found = self._text[self.at : self.at + 1] == char
        self.at += found
        return found

    def _next(self) -> str:
        if self.at >= len(self._text):
            raise PatternRefused("it ends too early")
        self.at += 1
        return self._text[self.at - 1]
