"""Turns: of several runs of the same job at the same moment, one goes on and the others leave.

Only thrift rests on this. Correctness rests on leases, row locks and unique keys, which hold without it.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from django.db import DatabaseError, connection
from django.db.backends.signals import connection_created
from django.dispatch import receiver

# A server that is not told so keeps the locks of a worker that vanished for the two hours of its kernel.
LOOKED_AFTER = "SET tcp_keepalives_idle = 10; SET tcp_keepalives_interval = 5; SET tcp_keepalives_count = 3"


@receiver(connection_created)
def look_after(connection: Any, **_: Any) -> None:
    """Have the server notice within half a minute that nobody is there any more."""
    with connection.cursor() as cursor:
        cursor.execute(LOOKED_AFTER)


@contextmanager
def turn_taken(name: str) -> Iterator[bool]:
    """Whether the turn of this name is ours until the block ends.

    A session-level advisory lock in Postgres: it holds no transaction open, and it ends with its
    connection, so that a killed worker leaves nothing to wait for.
    """
    number = int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "big", signed=True)
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_lock(%s)", [number])
        row = cursor.fetchone()
    mine = bool(row and row[0])
    try:
        yield mine
    finally:
        # After a lost connection there is nothing to give back, and a new one does not hold it.
        if mine and connection.connection is not None:
            with suppress(DatabaseError), connection.cursor() as cursor:
                cursor.execute("SELECT pg_advisory_unlock(%s)", [number])
