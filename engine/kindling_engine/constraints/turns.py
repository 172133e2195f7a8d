"""Jobs for one thread, of owners who take turns."""

import threading
from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

Job = TypeVar("Job", bound=Hashable)


class Turns(Generic[Job]):
    """Whoever has many jobs waiting delays the next of another owner by one. A job may be several owners'; it is taken
    once, and not again before it is ``done``.
    """

    def __init__(self) -> None:
        self._lines: OrderedDict[str, dict[Job, None]] = OrderedDict()
        self._taken: set[Job] = set()
        self._served = ""
        self._changed = threading.Condition()

    def put(self, owner: str, job: Job) -> None:
        """Let a job wait behind the others of its owner."""
        with self._changed:
            if job not in self._taken:
                self._lines.setdefault(owner, {})[job] = None
                self._changed.notify()

    def take(self) -> Job:
        """The oldest job of the owner whose turn it is, as soon as there is one."""
        with self._changed:
            self._changed.wait_for(lambda: self._lines)
            # Not when it was served: who came during that job is in front of it as well.
            if self._served in self._lines:
                self._lines.move_to_end(self._served)
            self._served, line = next(iter(self._lines.items()))
            job = next(iter(line))
            self._leave(job)
            self._taken.add(job)
            return job

    def done(self, job: Job) -> None:
        with self._changed:
            self._taken.discard(job)

    def drop(self, job: Job) -> bool:
        """Whether the job was still waiting, which it no longer is."""
        with self._changed:
            return self._leave(job)

    def _leave(self, job: Job) -> bool:
        owners = [owner for owner, line in self._lines.items() if job in line]
        for owner in owners:
            del self._lines[owner][job]
            if not self._lines[owner]:
                del self._lines[owner]
        return bool(owners)
