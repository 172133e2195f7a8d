"""Beat's scheduler: in memory, and silent while nobody empties the queue."""

from typing import Any

from celery.beat import ScheduleEntry, Scheduler
from redis.exceptions import RedisError

from kindling_workers.complaints import complaints
from kindling_workers.valkey import valkey_client

QUEUE = "celery"
# Ten minutes of ticks. Without workers they would fill the server that also keeps the holds.
MAX_WAITING = 1_000


class BoundedScheduler(Scheduler):
    """The schedule is all code: a file beside it could only be torn by a kill."""

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
