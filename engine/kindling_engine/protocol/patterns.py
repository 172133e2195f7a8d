"""Matches regular expressions from strangers: never by trying one way after the other, and within a budget.

An expression becomes a nondeterministic automaton, whose states are followed all at once (Thompson, 1968); sets of
states that were met before are remembered, so that a common expression costs one step per character.
"""

from dataclasses import dataclass

from kindling_engine.protocol.pattern_syntax import (
    WORD,
    Anchor,
    Either,
    Node,
    OneOf,
    PatternRefused,
    Repeat,
    Sequence,
    pattern_parse,
)

__all__ = ["Budget", "Pattern", "PatternRefused"]

_MAX_STATES = 5000
_VISIT_COST = 8
_DEAD = -1
_Raw = frozenset[int]


@dataclass(slots=True)
class Budget:
    """Work that all expressions of one file may cause together; 8 million units are seconds, not minutes."""

    left: int = 8_000_000

    def spend(self, amount: int) -> None:
        """Raises PatternRefused when nothing is left."""
        self.left -= amount
        if self.left < 0:
            raise PatternRefused("it takes too long to match")


@dataclass(frozen=True, slots=True)
class _Fork:
    """Goes on in any of these states, without a character."""

    to: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class _Eat:
    characters: frozenset[str]
    to: int


@dataclass(frozen=True, slots=True)
class _Place:
    kind: str
    to: int


@dataclass(frozen=True, slots=True)
class _Look:
    """Goes on where the states from ``start`` do or do not reach ``goal`` on what follows."""

    start: int
    goal: int
    wanted: bool
    to: int


_State = _Fork | _Eat | _Place | _Look | None


class Pattern:
    """One expression; raises PatternRefused where it cannot be served, then or while it matches."""

    def __init__(self, text: str, budget: Budget) -> None:
        self._budget = budget
        self._states: list[_State] = []
        self._goal = self._add(None)
        self._looks = False
        self._start = self._build(pattern_parse(text), self._goal)
        # Sets of states by number, each with the character before it, and the steps from there that are known.
        self._known: dict[tuple[_Raw, str], int] = {}
        self._sets: list[tuple[_Raw, str]] = []
        self._steps: list[dict[str, int]] = []
        self._ends: dict[int, bool] = {}
        self._first = self._number(frozenset((self._start,)), "")

    def fullmatch(self, name: str) -> bool:
        """Whether the expression matches the whole of an ASCII ``name``, as ``re.fullmatch`` would say."""
        self._budget.spend(len(name) + 1)
        if self._looks:
            return self._reaches(self._start, self._goal, name, 0, whole=True)
        at = self._first
        for char in name:
            following = self._steps[at].get(char)
            if following is None:
                following = self._step(at, char)
            if following == _DEAD:
                return False
            at = following
        if at not in self._ends:
            states, before = self._sets[at]
            self._ends[at] = self._goal in self._closure(states, before, "")
        return self._ends[at]

    def _build(self, node: Node, to: int) -> int:
        """Add the states of ``node``, which go on to ``to``; gives the first."""
        if isinstance(node, OneOf):
            return self._add(_Eat(node.characters, to))
        if isinstance(node, Sequence):
            for part in reversed(node.parts):
                to = self._build(part, to)
            return to
        if isinstance(node, Either):
            return self._add(_Fork(tuple(self._build(choice, to) for choice in node.choices)))
        if isinstance(node, Repeat):
            return self._build_repeat(node, to)
        if isinstance(node, Anchor):
            return self._add(_Place(node.kind, to))
        self._looks = True
        goal = self._add(None)
        return self._add(_Look(self._build(node.body, goal), goal, node.wanted, to))

    def _build_repeat(self, node: Repeat, to: int) -> int:
        if node.most is None:
            loop = self._add(None)
            self._states[loop] = _Fork((self._build(node.body, loop), to))
            start = loop
        else:
            start = to
            for _ in range(node.most - node.least):
                start = self._add(_Fork((self._build(node.body, start), to)))
        for _ in range(node.least):
            start = self._build(node.body, start)
        return start

    def _add(self, state: _State) -> int:
        if len(self._states) >= _MAX_STATES:
            raise PatternRefused("it is too large")
        self._states.append(state)
        return len(self._states) - 1

    def _number(self, states: _Raw, before: str) -> int:
        # Of what came before, only its kind matters.
        key = (states, before and ("_" if before in WORD else "."))
        if key not in self._known:
            self._known[key] = len(self._sets)
            self._sets.append(key)
            self._steps.append({})
        return self._known[key]

    def _step(self, at: int, char: str) -> int:
        states, before = self._sets[at]
        behind = self._after(self._closure(states, before, char), char)
        following = self._number(behind, char) if behind else _DEAD
        self._steps[at][char] = following
        return following

    def _after(self, states: set[int], char: str) -> _Raw:
        eaten = (self._states[state] for state in states)
        return frozenset(state.to for state in eaten if isinstance(state, _Eat) and char in state.characters)

    def _closure(self, states: _Raw, before: str, after: str, rest: tuple[str, int] = ("", 0)) -> set[int]:
        """All states that are reached without a character; ``rest`` is the name and the place in it."""
        seen: set[int] = set()
        waiting = list(states)
        while waiting:
            at = waiting.pop()
            if at in seen:
                continue
            seen.add(at)
            self._budget.spend(_VISIT_COST)
            state = self._states[at]
            if isinstance(state, _Fork):
                waiting.extend(state.to)
            elif (isinstance(state, _Place) and _holds(state.kind, before, after)) or (
                isinstance(state, _Look)
                and self._reaches(state.start, state.goal, *rest, whole=False) is state.wanted
            ):
                waiting.append(state.to)
        return seen

    def _reaches(self, start: int, goal: int, name: str, place: int, *, whole: bool) -> bool:
        """Follow the states along ``name`` from ``place`` on, with the rest of it in sight."""
        states = frozenset((start,))
        for at in range(place, len(name) + 1):
            closure = self._closure(states, name[at - 1 : at] if at else "", name[at : at + 1], (name, at))
            if goal in closure and (not whole or at == len(name)):
                return True
            states = self._after(closure, name[at : at + 1])
            if not states:
                return False
        return False


def _holds(kind: str, before: str, after: str) -> bool:
    if kind == "start":
        return not before
    if kind == "end":
        return not after
    return ((before in WORD) != (after in WORD)) is (kind == "boundary")
