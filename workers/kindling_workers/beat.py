"""Beat's scheduler: in memory, silent while nobody empties the queue, and not held up by a clock that is set back."""

import time
from typing import Any

from celery.beat import ScheduleEntry, Scheduler
from redis.exceptions import RedisError

from kindling_workers.complaints import complaints
from kindling_workers.valkey import valkey_client

QUEUE = "celery"
# Ten minutes of ticks. Without workers they would fill the server that also keeps the holds.
MAX_WAITING = 1_000
# Between two looks, so far beyond what a clock is slowed down or a look takes.
SET_BACK_S = 1.0


class BoundedScheduler(Scheduler):
    """The schedule is all code: a file beside it could only be torn by a kill."""

    _wall = _steady = 0.0

    def tick(self, *args: Any, **kwargs: Any) -> float:
        """Send what is due; after the clock was set back, count from the time it shows now."""
        wall, steady = time.time(), time.monotonic()
        if wall - self._wall < steady - self._steady - SET_BACK_S:
            complaints.complain("beat clock", "the clock was set back: every tick is counted from now on")
            for entry in self.schedule.values():
                entry.last_run_at = entry.default_now()
            self._heap = None
        self._wall, self._steady = wall, steady
        return float(super().tick(*args, **kwargs))

    def apply_entry(self, entry: ScheduleEntry, producer: Any = None) -> None:
        """Send the tick, unless so many wait already that one more would wake nobody."""
        if queue_is_full():
            complaints.complain("beat", f"more than {MAX_WAITING} messages wait: no worker takes them")
            return
        complaints.content("beat")
        super().apply_entry(entry, producer)


def queue_is_full() -> bool:
    """Whether messages pile up; a broker that does not answer is left to Celery's own retries."""
    try:
        return int(str(valkey_client().llen(QUEUE))) >= MAX_WAITING
    except RedisError:
        return False
