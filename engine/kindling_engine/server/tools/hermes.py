"""Calls as Hermes and Qwen models write them: `<tool_call>{"name": …, "arguments": {…}}</tool_call>`, any number."""

from kindling_engine.server.tools.call_reader import CallReader
from kindling_engine.server.tools.parser import MarkedParser

OPEN, CLOSE = "<tool_call>", "</tool_call>"


class HermesParser(MarkedParser):
    """Finds marked calls anywhere in an answer."""

    opening = OPEN
    closing = CLOSE

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
