"""The frame of a periodic task: one run at a time, and a missing server is a complaint, not a traceback."""

from collections.abc import Iterator
from contextlib import contextmanager

from django.db import InterfaceError, OperationalError
from redis.exceptions import RedisError

from kindling_platform.common.objectstore.errors import StoreError
from kindling_workers.complaints import complaints
from kindling_workers.drivers.base import DriverError
from kindling_workers.turns import turn_taken

AWAY = (OperationalError, InterfaceError, RedisError, DriverError, StoreError)


@contextmanager
def tick(name: str) -> Iterator[bool]:
    """Whether this run should do the work; the next tick tries again what failed for lack of a server."""
    try:
        with turn_taken(name) as mine:
            yield mine
    except AWAY as error:
        complaints.complain(name, f"{type(error).__name__}: {error}")
    else:
        complaints.content(name)
