"""Says a lasting trouble once, again every minute, and once more when it is over: not at every tick."""

import threading
import time
from dataclasses import dataclass, field

import structlog

REPEAT_S = 60.0
log = structlog.get_logger("kindling.workers")


@dataclass(slots=True)
class Complaints:
    """Troubles by subject; safe to share among threads."""

    _said: dict[str, tuple[str, float]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def complain(self, subject: str, trouble: str, *, error: BaseException | None = None) -> None:
        """Log the trouble unless it was logged in the last minute; `error` adds its traceback."""
        now = time.monotonic()
        with self._lock:
            last = self._said.get(subject)
            if last and last[0] == trouble and now - last[1] < REPEAT_S:
                return
            self._said[subject] = (trouble, now)
        log.warning("trouble", subject=subject, trouble=trouble, exc_info=error)

    def content(self, subject: str) -> None:
        """The subject is well; logged when it was not before."""
        with self._lock:
            was_bad = self._said.pop(subject, None) is not None
        if was_bad:
            log.warning("well again", subject=subject)


complaints = Complaints()
