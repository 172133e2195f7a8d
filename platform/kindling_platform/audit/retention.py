"""Deletes the beginning of the audit log, by the one way that the database lets through."""

from datetime import timedelta

from django.conf import settings
from django.db import connection, transaction

from kindling_platform.common.clock import now

STEP_ROWS = 2000
# The rows are picked before any is deleted: as part of the condition they might be picked anew for each row.
DELETE = """
    WITH old AS MATERIALIZED (
        SELECT id FROM audit_auditevent WHERE created_at < %s ORDER BY created_at LIMIT %s FOR UPDATE SKIP LOCKED
    )
    DELETE FROM audit_auditevent WHERE id IN (SELECT id FROM old)
"""


@transaction.atomic
def audit_purge(*, limit: int = STEP_ROWS) -> int:
    """Delete up to `limit` of the oldest events that are older than they are kept; gives their number.

    The database refuses every other deletion, and this one too of the last ninety days.
    """
    days = settings.KINDLING_ENV.keep_audit_days
    if not days:
        return 0
    kept_from = now() - timedelta(days=days)
    with connection.cursor() as cursor:
        cursor.execute("SELECT set_config('kindling.audit_kept_from', %s, true)", [kept_from.isoformat()])
        cursor.execute(DELETE, [kept_from, limit])
        return int(cursor.rowcount)
