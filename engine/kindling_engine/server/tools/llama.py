"""Calls as Llama 3 models write them: an answer that is `{"name": …, "parameters": {…}}`, or several after `;`.

The model may put `<|python_tag|>` in front. Nothing else marks a call, so only the names of offered tools count.
"""

from collections.abc import Callable, Collection

from kindling_engine.server.tools.call_reader import CallReader
from kindling_engine.server.tools.parser import ToolParser, call_id_make

TAG = "<|python_tag|>"


class LlamaParser(ToolParser):
    """Finds calls at the beginning of an answer and behind one another."""

    def __init__(self, names: Collection[str], make_id: Callable[[], str] = call_id_make) -> None:
        super().__init__(names, make_id)
        self._step = self._at_start

    def _at_start(self) -> bool:
        rest = self._pending.lstrip()
        tagged = rest.startswith(TAG)
        unsure = TAG.startswith(rest) and not tagged
        if unsure and (not self._final or (self._cut and len(rest) > 1)):
            return False
        if not (tagged or rest.startswith("{")):
            self._step = self._in_text
            return True
        self._begin(len(self._pending) - len(rest) + (len(TAG) if tagged else 0))
        return True

    def _begin(self, cursor: int) -> None:
        self._cursor = self._head = cursor
        self._reader = CallReader(self._names)
        self._step = self._in_call

    def _in_call(self) -> bool:
        return self._read_call(done=self._behind_call, broken=self._in_broken)

    def _half_call(self) -> bool:
        tagged = self._pending.lstrip().startswith(TAG)
        return False if self._cut and tagged else self._not_a_call()

    def _behind_call(self) -> bool:
        rest = self._pending.lstrip()
        if rest.startswith(";"):
            inner = rest[1:].lstrip()
            if not inner and not self._final:
                return False
            if inner.startswith("{"):
                self._begin(len(self._pending) - len(inner))
                return True
        elif not rest and not self._final:
            return False
        self._step = self._in_text
        return True

    def _in_text(self) -> bool:
        if self._final:
            return self._rest_of_text()
        self._content(len(self._pending.rstrip()))
        return False

    def _in_broken(self) -> bool:
        self._arguments(self._pending)
        self._drop(len(self._pending))
        return False
