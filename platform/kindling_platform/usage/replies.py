"""Answers kept for an Idempotency-Key: gateways write and read them, here they end."""

from kindling_platform.common.clock import now
from kindling_platform.usage.models import IdempotentReply

PURGE_ROWS = 5000


def replies_purge(*, limit: int = PURGE_ROWS) -> int:
    """Delete up to `limit` answers whose day is over; gives their number."""
    old = IdempotentReply.objects.filter(expires_at__lte=now()).values_list("digest", flat=True)
    return int(IdempotentReply.objects.filter(digest__in=list(old[:limit])).delete()[0])
