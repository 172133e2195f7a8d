"""Answers kept for an Idempotency-Key: gateways write and read them, here they end."""

from kindling_platform.common.clock import now
from kindling_platform.common.purging import purged
from kindling_platform.usage.models import IdempotentReply

PURGE_ROWS = 5000
PURGE_BATCHES = 20


def replies_purge(*, limit: int = PURGE_ROWS, batches: int = PURGE_BATCHES) -> int:
    """Delete answers whose day is over, in so many batches at most; gives their number."""
    return purged(IdempotentReply.objects.filter(expires_at__lte=now()), limit=limit, batches=batches)
