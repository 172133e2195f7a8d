"""Leases on rows: a token and an expiry, so that two workers never do the same step at the same time."""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from threading import Event, Thread
from typing import Any

from django.db import DatabaseError, connection
from django.db.models import Manager, Q

from kindling_platform.common.clock import now


def lease_take(manager: "Manager[Any]", *, pk: str, ttl_s: float) -> str | None:
    """Lease a row with `lease_token` and `lease_expires_at`; None while somebody else holds it.

    A lease that ends later than any that begins now was written by a clock that has been set back since.
    """
    token, moment, ttl = secrets.token_hex(16), now(), timedelta(seconds=ttl_s)
    ended = Q(lease_expires_at__lt=moment) | Q(lease_expires_at__gt=moment + 2 * ttl)
    taken = manager.filter(Q(lease_token="") | ended, pk=pk).update(
        lease_token=token, lease_expires_at=moment + ttl
    )
    return token if taken else None


def lease_renew(manager: "Manager[Any]", *, pk: str, token: str, ttl_s: float) -> bool:
    """Begin a lease's time anew; False if it had been lost."""
    expires_at = now() + timedelta(seconds=ttl_s)
    return bool(manager.filter(pk=pk, lease_token=token).update(lease_expires_at=expires_at))


@contextmanager
def lease_kept(manager: "Manager[Any]", *, pk: str, token: str, ttl_s: float) -> Iterator[None]:
    """Renew a lease until the block ends, from a thread: what holds it may be one long read of a slow disk."""
    over = Event()

    def renew() -> None:
        try:
            while not over.wait(ttl_s / 3):
                # While the database is away nobody else can take the lease either.
                with suppress(DatabaseError):
                    if not lease_renew(manager, pk=pk, token=token, ttl_s=ttl_s):
                        return
        finally:
            connection.close()

    keeper = Thread(target=renew, name="lease", daemon=True)
    keeper.start()
    try:
        yield
    finally:
        over.set()
        keeper.join()


def lease_release(manager: "Manager[Any]", *, pk: str, token: str) -> bool:
    """Give a lease back; False if it had been lost."""
    return bool(manager.filter(pk=pk, lease_token=token).update(lease_token="", lease_expires_at=None))
