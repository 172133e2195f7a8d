"""One line per step of the start, with its time."""

import contextlib
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.text import Text


class Progress:
    """Says what happens: a spinner on a terminal, plain lines elsewhere."""

    def __init__(self) -> None:
        self.console = Console(file=sys.stdout, highlight=False, soft_wrap=True)
        self.started = time.monotonic()

    @property
    def elapsed_s(self) -> float:
        return time.monotonic() - self.started

    @contextmanager
    def step(self, what: str) -> Iterator[list[str]]:
        """Time a step; what is appended to the list stands behind its name."""
        begun = time.monotonic()
        notes: list[str] = []
        try:
            if self.console.is_terminal:
                with self.console.status(what):
                    yield notes
            else:
                yield notes
        except BaseException:
            self._line("✗", "red", what, [], time.monotonic() - begun)
            raise
        self._line("✓", "green", what, notes, time.monotonic() - begun)

    def say(self, text: str | Text = "") -> None:
        # The terminal may be closed by now, and a stop must come to its end all the same.
        with contextlib.suppress(OSError):
            self.console.print(text if isinstance(text, Text) else Text(text))

    def fail(self, code: str, message: str) -> None:
        """The one sentence of a failed start, its code, and where to look next."""
        self.say(Text(f"\n{message}\n", style="bold red"))
        self.say(f"[{code}]  `./kindling doctor` looks for the cause.")

    def _line(self, mark: str, colour: str, what: str, notes: list[str], took_s: float) -> None:
        label = " ".join([what, *notes])
        self.say(Text.assemble("  ", (mark, colour), f" {label:<52} {took_s:6.1f} s"))
