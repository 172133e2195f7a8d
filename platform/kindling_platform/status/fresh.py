"""The status page for whoever asks how often: a process reads it from the database once in some seconds.

What the operator writes is there at once in the process that takes it, and in all others when that time is over.
"""

import threading
import time

from django.db import InterfaceError, OperationalError, transaction

from kindling_platform.status.selectors import Status, status_get

FRESH_S = 5.0
# While the database is away it is asked as seldom as this, however many ask for the page.
AWAY_S = 1.0


class _Kept:
    """The last answer of this process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._status: Status | None = None
        self._away: OperationalError | InterfaceError | None = None
        self._until = 0.0
        self._written = 0

    def get(self) -> Status:
        with self._lock:
            if time.monotonic() < self._until:
                if self._away is not None:
                    raise OperationalError(*self._away.args)
                if self._status is not None:
                    return self._status
            written = self._written
            try:
                self._status, self._away = status_get(), None
            except (OperationalError, InterfaceError) as error:
                self._away, self._until = error, time.monotonic() + AWAY_S
                raise
            # What was written while it was read may not be in it.
            self._until = time.monotonic() + FRESH_S if written == self._written else 0.0
            return self._status

    def forget(self) -> None:
        # Without the lock: whoever holds it waits for the database.
        self._written += 1
        self._until = 0.0


_kept = _Kept()


def status_fresh() -> Status:
    """How everything is, as it was read at most some seconds ago.

    Raises:
        OperationalError: the database is away, or was a second ago. Or InterfaceError.
    """
    return _kept.get()


def status_changed() -> None:
    """Have it read anew, once the transaction is committed; call it where the operator's words change."""
    transaction.on_commit(_kept.forget)


def status_forget() -> None:
    """Have it read anew now."""
    _kept.forget()
