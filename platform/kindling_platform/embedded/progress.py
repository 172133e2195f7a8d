"""One line per step of the start, with its time."""

import contextlib
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.live import Live
from rich.status import Status
from rich.text import Text

NEWS_EVERY_S = 10.0
SPINNER_ENDS_WITHIN_S = 1.0


class Progress:
    """Says what happens: a spinner on a terminal, plain lines elsewhere."""

    def __init__(self) -> None:
        self.console = Console(file=sys.stdout, highlight=False, soft_wrap=True)
        self.started = time.monotonic()
        self._what = ""
        self._status: Status | None = None
        self._news_at = 0.0

    @property
    def elapsed_s(self) -> float:
        return time.monotonic() - self.started

    @contextmanager
    def step(self, what: str) -> Iterator[list[str]]:
        """Time a step; what is appended to the list stands behind its name."""
        begun = time.monotonic()
        notes: list[str] = []
        self._what = what
        try:
            if self.console.is_terminal:
                with self.console.status(what) as self._status:
                    yield notes
                _spinner_wait()
            else:
                yield notes
        except BaseException:
            self._line("✗", "red", what, [], time.monotonic() - begun)
            raise
        finally:
            self._status = None
        self._line("✓", "green", what, notes, time.monotonic() - begun)

    @contextmanager
    def still(self) -> Iterator[None]:
        """No spinner meanwhile: it is a thread, and stands in for the standard streams."""
        status = self._status
        if status is None:
            yield
            return
        status.stop()
        _spinner_wait()
        try:
            yield
        finally:
            status.start()

    def say(self, text: str | Text = "") -> None:
        # The terminal may be closed by now, and a stop must come to its end all the same.
        with contextlib.suppress(OSError):
            self.console.print(text if isinstance(text, Text) else Text(text))

    def news(self, text: str) -> None:
        """How far the current step is: behind its name on a terminal, a line now and then elsewhere."""
        if self._status is not None:
            self._status.update(f"{self._what}: {text}")
        elif time.monotonic() >= self._news_at:
            self._news_at = time.monotonic() + NEWS_EVERY_S
            self.say(f"    {text}")

    def warn(self, code: str, message: str) -> None:
        """What does not work just now, and its code, where everything else goes on."""
        self.say(Text(f"\n{message}\n", style="bold yellow"))
        self.say(f"[{code}]  Everything else runs; the console and `./kindling doctor` show what is wrong.")

    def fail(self, code: str, message: str) -> None:
        """The one sentence of a failed start, its code, and where to look next."""
        self.say(Text(f"\n{message}\n", style="bold red"))
        self.say(f"[{code}]  `./kindling doctor` looks for the cause.")

    def _line(self, mark: str, colour: str, what: str, notes: list[str], took_s: float) -> None:
        label = " ".join([what, *notes])
        self.say(Text.assemble("  ", (mark, colour), f" {label:<52} {took_s:6.1f} s"))


def _spinner_wait() -> None:
    """Wait for the spinner's thread to be gone: it is told to end, and nobody else does."""
    for thread in threading.enumerate():
        if type(thread).__module__ == Live.__module__:
            thread.join(SPINNER_ENDS_WITHIN_S)
