"""Cuts what a model says into reasoning, content and tool calls, while it arrives."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from kindling_engine.server.harmony.marks import Harmony
from kindling_engine.server.harmony.parser import HarmonyParser
from kindling_engine.server.reasoning import ReasoningFamily
from kindling_engine.server.tools.deltas import Content, Delta, Reasoning, deltas_join
from kindling_engine.server.tools.family import ToolFamily
from kindling_engine.server.tools.parser import ToolParser, partial_end


@dataclass(frozen=True, slots=True)
class ChatShape:
    """What an answer may consist of. ``opened``: it begins inside its reasoning.

    ``tools`` is set when tools were ``offered``, here with their parameters; ``functions`` asks for the old form with a
    single call. With ``harmony`` the answer's messages say what each of them is.
    """

    reasoning: ReasoningFamily | None = None
    opened: bool = False
    tools: ToolFamily | None = None
    offered: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    functions: bool = False
    harmony: Harmony | None = None


class ChatOutput:
    """One answer. The joined deltas do not depend on where the text was cut."""

    def __init__(self, shape: ChatShape) -> None:
        self._splitter = ReasoningSplitter(shape.reasoning, opened=shape.opened) if shape.reasoning else None
        self._harmony = HarmonyParser(shape.offered) if shape.harmony else None
        self._parser: ToolParser | None = shape.tools.parser(shape.offered) if shape.tools else None
        self._made = 0
        self._shift: int | None = None  # characters in front of those that the parser has been given

    @property
    def calls(self) -> int:
        """How many calls have begun."""
        parser = self._harmony or self._parser
        return parser.calls if parser else 0

    @property
    def unfinished(self) -> bool:
        """Whether a call has begun and not ended."""
        parser = self._harmony or self._parser
        return parser is not None and parser.unfinished

    def feed(self, text: str, *, final: bool = False, cut: bool = False) -> list[Delta]:
        """Take the next piece in; ``final`` says that no more follows, ``cut`` that it would have."""
        if self._harmony:
            return self._harmony.feed(text, final=final, cut=cut)
        deltas = self._split(text, final=final)
        if self._parser is None:
            return deltas
        out: list[Delta] = []
        for delta in deltas:
            if not isinstance(delta, Content):
                out.append(delta)
                continue
            # What the parser gets begins behind the reasoning and has no gaps.
            self._shift = delta.start if self._shift is None else self._shift
            out += self._parser.feed(delta.text)
        if final:
            out += self._parser.feed("", final=True, cut=cut)
        return deltas_join(self._shifted(delta) for delta in out)

    def _split(self, text: str, *, final: bool) -> list[Delta]:
        if self._splitter:
            return self._splitter.feed(text, final=final)
        start, self._made = self._made, self._made + len(text)
        return [Content(text, start)] if text else []

    def _shifted(self, delta: Delta) -> Delta:
        return Content(delta.text, delta.start + (self._shift or 0)) if isinstance(delta, Content) else delta


class ReasoningSplitter:
    """Tells reasoning at the beginning of an answer from what follows. Line breaks around the marks are dropped."""

    def __init__(self, family: ReasoningFamily, *, opened: bool) -> None:
        self._start, self._end = family.start, family.end
        self._pending = ""
        self._base = 0
        self._final = False
        self._begun = False
        self._out: list[Delta] = []
        self._step = self._inside if opened else self._before

    def feed(self, text: str, *, final: bool) -> list[Delta]:
        """Take the next piece in; gives what can be told now."""
        self._pending += text
        self._final = final
        while self._step():
            pass
        out, self._out = self._out, []
        return deltas_join(out)

    def _before(self) -> bool:
        rest = self._pending.lstrip()
        if rest.startswith(self._start):
            self._drop(len(self._pending) - len(rest) + len(self._start))
            self._step = self._inside
            return True
        if self._start.startswith(rest) and not self._final:
            return False
        self._step = self._behind
        return True

    def _inside(self) -> bool:
        if not self._begun:
            self._drop(len(self._pending) - len(self._pending.lstrip("\n")))
            self._begun = bool(self._pending)
        found = self._pending.find(self._end)
        if found >= 0:
            self._reason(self._pending[:found].rstrip("\n"))
            self._drop(found + len(self._end))
            self._step = self._between
            return True
        if self._final:
            self._reason(self._pending.rstrip("\n"))
            self._drop(len(self._pending))
            return False
        sure = self._pending[: len(self._pending) - partial_end(self._pending, self._end)].rstrip("\n")
        self._reason(sure)
        self._drop(len(sure))
        return False

    def _between(self) -> bool:
        self._drop(len(self._pending) - len(self._pending.lstrip("\n")))
        if not self._pending:
            return False
        self._step = self._behind
        return True

    def _behind(self) -> bool:
        if self._pending:
            self._out.append(Content(self._pending, self._base))
            self._drop(len(self._pending))
        return False

    def _reason(self, text: str) -> None:
        if text:
            self._out.append(Reasoning(text))

    def _drop(self, count: int) -> None:
        self._pending = self._pending[count:]
        self._base += count
