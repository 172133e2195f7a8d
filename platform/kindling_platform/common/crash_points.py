"""Named places where a test lets a process die as if the machine had killed it.

Each durable step of the bill calls `crash_point` beside it. A point does nothing unless KINDLING_CRASH_AT names it when
the process starts, which no installation does.
"""

import os
from typing import Literal, NoReturn, get_args

Point = Literal[
    "spool.opened",
    "dispatch.sent",
    "spool.voided",
    "retry.moved",
    "relay.first",
    "spool.checkpointed",
    "relay.last",
    "spool.closed",
    "ship.inserted",
    "ship.marked",
    "replay.inserted",
    "idempotency.entered",
    "idempotency.taken",
    "idempotency.kept",
    "batch.answered",
    "batch.put",
    "batch.written",
    "book.written",
    "book.committed",
    "ingest.written",
    "ingest.committed",
    "gpu_time.written",
    "gpu_time.committed",
]
POINTS: tuple[str, ...] = get_args(Point)
SETTING = "KINDLING_CRASH_AT"
KILLED = 137
_at = os.environ.get(SETTING, "")


def crash_point(name: Point) -> None:
    """Die here when a test wants to see what is left then."""
    if _at and name == _at:
        _die()


def _die() -> NoReturn:
    os._exit(KILLED)
