"""Calls as Hermes and Qwen models write them: `<tool_call>{"name": …, "arguments": {…}}</tool_call>`, any number."""

from kindling_engine.server.tools.call_reader import CallReader
from kindling_engine.server.tools.parser import MarkedParser, partial_end

OPEN, CLOSE = "<tool_call>", "</tool_call>"


class HermesParser(MarkedParser):
    """Finds marked calls anywhere in an answer."""

    opening = OPEN

    def _behind_mark(self) -> bool:
        self._reader = CallReader(self._names)
        self._step = self._in_call
        return True

    def _in_call(self) -> bool:
        return self._read_call(done=self._behind_call, broken=self._in_broken)

    def _behind_call(self) -> bool:
        """The closing mark is not missed when it is missing."""
        rest = self._pending.lstrip()
        if rest.startswith(CLOSE):
            self._drop(len(self._pending) - len(rest) + len(CLOSE))
        elif CLOSE.startswith(rest):
            if self._final:
                self._drop(len(self._pending))
            return False
        self._step = self._in_text
        return True

    def _in_broken(self) -> bool:
        found = self._pending.find(CLOSE)
        if found >= 0:
            self._arguments(self._pending[:found])
            self._drop(found + len(CLOSE))
            self._step = self._in_text
            return True
        sure = len(self._pending) - (0 if self._final else partial_end(self._pending, CLOSE))
        self._arguments(self._pending[:sure])
        self._drop(sure)
        return False
