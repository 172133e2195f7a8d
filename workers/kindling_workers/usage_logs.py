"""Deletes engines' usage logs that are old, booked to their end and written by nobody."""

from datetime import timedelta

import structlog
from django.conf import settings

from kindling_platform.common.clock import now
from kindling_platform.usage.models import UsageCursor
from kindling_workers.drivers.base import UsageSource

log = structlog.get_logger("kindling.workers")


def usage_logs_forget(source: UsageSource) -> int:
    """Delete those that nobody has written for as long as the settings keep them; gives how many. Errors: those of the
    source, of the database.
    """
    days = settings.KINDLING_ENV.keep_usage_logs_days
    if not days:
        return 0
    before_ms = int((now() - timedelta(days=days)).timestamp() * 1000)
    booked = {row.source: row for row in UsageCursor.objects.all()}
    deleted = 0
    for found in source.usage_list():
        cursor = booked.get(found.replica)
        if found.written_ms >= before_ms or cursor is None or cursor.offset != found.size_bytes:
            continue
        # First the file: without it the cursor says nothing, while a file without a cursor would be read anew.
        if source.usage_delete(found.replica, size_bytes=found.size_bytes):
            UsageCursor.objects.filter(source=found.replica, log_id=cursor.log_id).delete()
            deleted += 1
    if deleted:
        log.info("usage_logs.forgotten", logs=deleted)
    return deleted
