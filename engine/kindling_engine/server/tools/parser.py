"""What the parsers of all families share: where they stand in the text, and what they have given out."""

import secrets
import string
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection
from typing import ClassVar

from kindling_engine.server.tools.call_reader import CallReader, Reading
from kindling_engine.server.tools.deltas import (
    Content,
    Delta,
    ToolCallArguments,
    ToolCallStart,
    deltas_join,
)

_ID_LETTERS = string.ascii_letters + string.digits


def call_id_make() -> str:
    return "call_" + "".join(secrets.choice(_ID_LETTERS) for _ in range(24))


def short_call_id_make() -> str:
    """Nine letters and digits, which is all that some templates accept."""
    return "".join(secrets.choice(_ID_LETTERS) for _ in range(9))


class ToolParser(ABC):
    """Cuts an answer into content and calls, as it arrives; the joined result does not depend on where it was cut.

    A call starts to flow as soon as its name and the first brace of its arguments are there. What turns out not to be
    a call before that is content, letter by letter, and so is a call to anything but the offered ``names``. What goes
    wrong inside the arguments stays in the arguments, as the model wrote it. White space around calls belongs to nobody
    and is dropped. Where an answer was ``cut`` by its length, what had begun to be a marked call is dropped, too.
    """

    def __init__(self, names: Collection[str], make_id: Callable[[], str] = call_id_make) -> None:
        self.calls = 0
        self._names = names
        self._make_id = make_id
        self._pending = ""  # what has not been given out
        self._base = 0  # where it begins in the source
        self._cursor = 0  # how far into it we have looked
        self._head = 0  # how much of it is text for certain, should no call come of the rest
        self._final = False
        self._cut = False
        self._reader = CallReader(names)
        self._out: list[Delta] = []
        self._step = self._in_text

    def feed(self, text: str, *, final: bool = False, cut: bool = False) -> list[Delta]:
        """Take the next piece of the answer in; gives what can be told now. ``cut``: it would have gone on."""
        self._pending += text
        self._final = final
        self._cut = cut
        while self._step():
            pass
        out, self._out = self._out, []
        return deltas_join(out)

    @property
    def unfinished(self) -> bool:
        """Whether the arguments of a call have begun and not ended."""
        return self._reader.unfinished

    @abstractmethod
    def _in_text(self) -> bool:
        """Content in front of, between and behind calls. Like every step: True when there is more to do at once."""

    # What steps are made of.

    def _content(self, count: int) -> None:
        """Give out the first characters as content."""
        if count:
            self._out.append(Content(self._pending[:count], self._base))
            self._drop(count)

    def _drop(self, count: int) -> None:
        self._pending = self._pending[count:]
        self._base += count
        self._cursor = max(0, self._cursor - count)

    def _rest_of_text(self) -> bool:
        """No more follows: give out everything, but for white space at the end of an answer with calls."""
        self._content(len(self._pending.rstrip() if self.calls else self._pending))
        return False

    def _start_call(self, name: str) -> None:
        """A call has proved to be one: what was read of it is not content."""
        self._drop(self._cursor)
        self._out.append(ToolCallStart(self.calls, self._make_id(), name))
        self.calls += 1

    def _arguments(self, text: str) -> None:
        if text:
            self._out.append(ToolCallArguments(self.calls - 1, text))

    def _read_call(self, *, done: Callable[[], bool], broken: Callable[[], bool]) -> bool:
        """Feed the reader. What turns out to be no call is looked at again, but for its head."""
        reader, started = self._reader, bool(self._reader.name)
        while reader.state is Reading.GOING and self._cursor < len(self._pending):
            reader.feed(self._pending[self._cursor])
            self._cursor += 1
            if reader.name and not started:
                started = True
                self._start_call(reader.name)
        self._arguments(reader.fresh)
        reader.fresh = ""
        match reader.state:
            case Reading.DONE:
                self._drop(self._cursor - len(reader.rest))
                self._cursor = 0
                self._step = done
                return True
            case Reading.BROKEN:
                self._drop(self._cursor)
                self._step = broken
                return True
            case Reading.BAD:
                return self._not_a_call()
        if started:
            self._drop(self._cursor - len(reader.rest))
        elif self._final:
            return self._half_call()
        return False

    def _half_call(self) -> bool:
        """The answer has ended before it was clear whether this is a call."""
        return self._not_a_call()

    def _not_a_call(self) -> bool:
        self._content(self._head)
        self._cursor = 0
        self._step = self._in_text
        return True


class MarkedParser(ToolParser):
    """Calls that begin with a mark, anywhere in the answer."""

    opening: ClassVar[str]
    closing: ClassVar[str] = ""

    @property
    def _without_mark(self) -> str:
        """What begins a call whose mark was forgotten; nothing where that cannot be told."""
        return ""

    def _in_text(self) -> bool:
        bare = self._without_mark
        found, forgotten = self._pending.find(self.opening), self._pending.find(bare) if bare else -1
        is_bare = forgotten >= 0 and (found < 0 or forgotten < found)
        if is_bare or found >= 0:
            found, mark = (forgotten, bare) if is_bare else (found, self.opening)
            said = len(self._pending[:found].rstrip())
            self._content(said)
            self._head = found - said + len(mark)
            self._cursor = self._head - len(mark) * is_bare
            self._step = self._behind_mark
            return True
        half = max(partial_end(self._pending, one) for one in (self.opening, bare) if one)
        if self._final and not (self._cut and half > 1):  # a single sign is more likely text
            return self._rest_of_text()
        sure = len(self._pending) - half
        self._content(len(self._pending[:sure].rstrip()))
        return False

    def _half_call(self) -> bool:
        return False if self._cut else self._not_a_call()

    def _in_broken(self) -> bool:
        """Arguments that have gone wrong: they are given out as they are, up to the closing mark."""
        found = self._pending.find(self.closing)
        if found >= 0:
            self._arguments(self._pending[:found])
            self._drop(found + len(self.closing))
            self._step = self._in_text
            return True
        sure = len(self._pending) - (0 if self._final else partial_end(self._pending, self.closing))
        self._arguments(self._pending[:sure])
        self._drop(sure)
        return False

    @abstractmethod
    def _behind_mark(self) -> bool:
        """The mark and white space in front of it are still pending, `_cursor` stands behind them."""


def partial_end(text: str, marker: str) -> int:
    """How many characters at the end of the text may begin the marker."""
    for size in range(min(len(marker) - 1, len(text)), 0, -1):
        if text.endswith(marker[:size]):
            return size
    return 0
