"""Compiled grammars in memory: least recently used within bounds, compiled on a thread.

A caller asks with a ticket of its own and is given the grammar at once, or later through ``poll``. The step loop
never waits for a compilation, and no owner for more than one of each other owner's.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from queue import SimpleQueue

from kindling_engine.constraints.base import ConstraintError
from kindling_engine.constraints.grammar import CompiledGrammar, GrammarCompiler
from kindling_engine.constraints.turns import Turns

MAX_GRAMMARS = 256
MAX_BYTES = 128 << 20

Key = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Settled:
    """A ticket's answer."""

    ticket: object
    result: CompiledGrammar | ConstraintError


class GrammarCache:
    """Single-threaded but for the compiler behind it; ``wake`` is called from that thread when one is ready."""

    def __init__(
        self,
        compiler: GrammarCompiler,
        *,
        wake: Callable[[], None],
        max_grammars: int = MAX_GRAMMARS,
        max_bytes: int = MAX_BYTES,
    ) -> None:
        self._compiler = compiler
        self._wake = wake
        self._max_grammars = max_grammars
        self._max_bytes = max_bytes
        self._ready: OrderedDict[Key, CompiledGrammar] = OrderedDict()
        self._size_bytes = 0
        self._waiting: dict[Key, list[object]] = {}
        self._jobs: Turns[Key] = Turns()
        self._done: SimpleQueue[tuple[Key, CompiledGrammar | ConstraintError]] = SimpleQueue()
        self._thread: threading.Thread | None = None

    def __len__(self) -> int:
        return len(self._ready)

    @property
    def waiting(self) -> int:
        """Tickets without an answer."""
        return sum(map(len, self._waiting.values()))

    def compile(self, kind: str, text: str) -> CompiledGrammar:
        """The grammar, here and now. Raises ConstraintError."""
        found = self._find((kind, text))
        if found is None:
            found = self._compiler.compile(kind, text)
            self._keep((kind, text), found)
        return found

    def acquire(self, kind: str, text: str, ticket: object, *, owner: str = "") -> CompiledGrammar | None:
        """The grammar if it is there; else ``poll`` will answer the ticket."""
        key = (kind, text)
        found = self._find(key)
        if found is None:
            self._start(owner, key)
            self._waiting.setdefault(key, []).append(ticket)
        return found

    def withdraw(self, ticket: object) -> None:
        """Drop a ticket that still waits; what is being compiled is kept for the next."""
        for key, tickets in list(self._waiting.items()):
            tickets[:] = [one for one in tickets if one is not ticket]
            if not tickets and self._jobs.drop(key):
                del self._waiting[key]

    def poll(self) -> list[Settled]:
        """Take in what has been compiled and answer its tickets, oldest first."""
        settled: list[Settled] = []
        while not self._done.empty():
            key, result = self._done.get()
            if isinstance(result, CompiledGrammar):
                self._keep(key, result)
            self._jobs.done(key)
            settled.extend(Settled(ticket, result) for ticket in self._waiting.pop(key, ()))
        return settled

    def _find(self, key: Key) -> CompiledGrammar | None:
        found = self._ready.get(key)
        if found is not None:
            self._ready.move_to_end(key)
        return found

    def _keep(self, key: Key, grammar: CompiledGrammar) -> None:
        self._ready[key] = grammar
        self._size_bytes += grammar.size_bytes
        while self._ready and (len(self._ready) > self._max_grammars or self._size_bytes > self._max_bytes):
            self._size_bytes -= self._ready.popitem(last=False)[1].size_bytes

    def _start(self, owner: str, key: Key) -> None:
        if self._thread is None:
            self._thread = threading.Thread(
                target=self._compile_forever, name="grammar-compiler", daemon=True
            )
            self._thread.start()
        self._jobs.put(owner, key)

    def _compile_forever(self) -> None:
        while True:
            key = self._jobs.take()
            result: CompiledGrammar | ConstraintError
            try:
                result = self._compiler.compile(*key)
            except ConstraintError as error:
                result = error
            except Exception as error:  # the thread must outlive any text it is given
                result = ConstraintError(
                    "invalid_schema", f"The grammar could not be compiled: {type(error).__name__}."
                )
            self._done.put((key, result))
            self._wake()
