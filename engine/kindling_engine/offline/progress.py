"""A bar for long runs, where rich is installed and somebody watches."""

import sys
import time
from types import TracebackType
from typing import Any

_LONG_LIST = 32
_SHOW_EVERY_S = 0.1


class Progress:
    """``wanted`` None shows a bar for long lists on a terminal; True always, where rich is installed."""

    def __init__(self, total: int, wanted: bool | None) -> None:
        self._total = total
        self._bar: Any = None
        self._task: Any = None
        self._began_s = self._shown_s = time.monotonic()
        if wanted or (wanted is None and total >= _LONG_LIST and sys.stderr.isatty()):
            self._bar = _bar_make()

    def __enter__(self) -> "Progress":
        if self._bar is not None:
            self._bar.start()
            self._task = self._bar.add_task("", total=self._total)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def show(self, *, done: int, tokens: int) -> None:
        """Say how far the run is; cheap enough for every step."""
        now_s = time.monotonic()
        if self._bar is None or (now_s - self._shown_s < _SHOW_EVERY_S and done < self._total):
            return
        self._shown_s = now_s
        rate = tokens / max(now_s - self._began_s, 1e-9)
        self._bar.update(self._task, completed=done, description=f"{rate:,.0f} tokens/s")


def _bar_make() -> Any:
    try:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as RichProgress
    except ImportError:
        return None
    return RichProgress(
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.description}"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    )
