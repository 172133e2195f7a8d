"""Leases on rows: a token and an expiry, so that two workers never do the same step at the same time."""

import secrets
from datetime import timedelta
from typing import Any

from django.db.models import Manager, Q

from kindling_platform.common.clock import now


def lease_take(manager: "Manager[Any]", *, pk: str, ttl_s: float) -> str | None:
    """Lease a row with `lease_token` and `lease_expires_at`; None while somebody else holds it."""
    token = secrets.token_hex(16)
    free = Q(lease_token="") | Q(lease_expires_at__lt=now())
    taken = manager.filter(free, pk=pk).update(
        lease_token=token, lease_expires_at=now() + timedelta(seconds=ttl_s)
    )
    return token if taken else None


def lease_release(manager: "Manager[Any]", *, pk: str, token: str) -> bool:
    """Give a lease back; False if it had been lost."""
    return bool(manager.filter(pk=pk, lease_token=token).update(lease_token="", lease_expires_at=None))
