"""Calls as Mistral models write them: `[TOOL_CALLS]` and a list, or the newer `[TOOL_CALLS]name[ARGS]{…}` for each."""

import re
from collections.abc import Callable, Collection

from kindling_engine.server.tools.call_reader import CallReader
from kindling_engine.server.tools.json_walk import JsonWalk
from kindling_engine.server.tools.parser import MarkedParser, partial_end, short_call_id_make

OPEN, ID_MARK, ARGUMENTS_MARK = "[TOOL_CALLS]", "[CALL_ID]", "[ARGS]"
# A name, perhaps an id, and the brace of the arguments.
_ID = r"\[CALL_ID\][A-Za-z0-9_\-]{0,64}\s{0,8}"
_NAME = r"([A-Za-z0-9_.\-]{1,128})\s{0,8}"
_HEAD = re.compile(rf"{_NAME}(?:{_ID})?(?:\[ARGS\]\s{{0,8}})?(?=\{{)")


class MistralParser(MarkedParser):
    """Finds both forms anywhere in an answer."""

    opening = OPEN

    def __init__(self, names: Collection[str], make_id: Callable[[], str] = short_call_id_make) -> None:
        super().__init__(names, make_id)
        self._walk = JsonWalk()

    @property
    def unfinished(self) -> bool:
        return self._step == self._in_arguments or super().unfinished

    def _behind_mark(self) -> bool:
        rest = self._pending[self._head :].lstrip()
        behind = len(self._pending) - len(rest)
        if rest[:1] in ("[", "{"):
            self._cursor = behind + (rest[0] == "[")
            self._begin_element()
            return True
        head = _HEAD.match(rest)
        if head and head[1] in self._names:
            self._cursor = behind + head.end()
            self._start_call(head[1])
            self._walk = JsonWalk()
            self._step = self._in_arguments
            return True
        if head or not _PART_OF_HEAD.fullmatch(rest):
            return self._not_a_call()
        return self._half_call() if self._final else False

    def _in_arguments(self) -> bool:
        for index, char in enumerate(self._pending):
            if not self._walk.feed(char):
                self._flow(index)
                self._step = self._in_broken
                return True
            if self._walk.done:
                self._flow(index + 1)
                self._step = self._in_text
                return True
        self._flow(len(self._pending))
        return False

    def _flow(self, count: int) -> None:
        self._arguments(self._pending[:count])
        self._drop(count)

    # The list.

    def _begin_element(self) -> None:
        self._reader = CallReader(self._names)
        self._step = self._in_element

    def _in_element(self) -> bool:
        return self._read_call(done=self._behind_element, broken=self._in_broken)

    def _behind_element(self) -> bool:
        rest = self._pending.lstrip()
        if not rest:
            return False
        if rest[0] == ",":
            inner = rest[1:].lstrip()
            if not inner and (self._cut or not self._final):
                return False
            if inner[:1] == "{":
                self._cursor = self._head = len(self._pending) - len(inner)
                self._begin_element()
                return True
        elif rest[0] == "]":
            self._drop(len(self._pending) - len(rest) + 1)
        self._step = self._in_text
        return True

    def _in_broken(self) -> bool:
        """Arguments that are no JSON go on until the next call or the end."""
        found = self._pending.find(OPEN)
        if found >= 0:
            self._flow(found)
            self._step = self._in_text
            return True
        self._flow(len(self._pending) - (0 if self._final else partial_end(self._pending, OPEN)))
        return False


def _beginnings(mark: str) -> str:
    """A pattern for every beginning of a mark, the empty one included."""
    pattern = ""
    for char in reversed(mark):
        pattern = f"(?:{re.escape(char)}{pattern})?"
    return pattern


# Every beginning of what _HEAD matches.
_PART_OF_HEAD = re.compile(
    rf"(?:[A-Za-z0-9_.\-]{{0,128}}|{_NAME}{_beginnings(ID_MARK)}|{_NAME}(?:{_ID})?{_beginnings(ARGUMENTS_MARK)}"
    rf"|{_NAME}(?:{_ID})?\[ARGS\]\s{{0,8}})"
)
