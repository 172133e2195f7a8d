"""The way past a record that the books refuse: it is kept whole, with the reason, for the operator to see.

Without it one bad record would keep every later request of its replica from being billed.
"""

from uuid import NAMESPACE_OID, UUID, uuid5

import msgspec
from django.db import transaction

from kindling_engine.protocol.usage_log import UsageRecord
from kindling_platform.usage.models import ParkedUsage, UsageCursor


@transaction.atomic
def record_park(
    *, source: str, log_id: str, after: int, record: UsageRecord, next_offset: int, reason: str
) -> bool:
    """Keep one record aside and move the cursor from `after` past it; False if the cursor is elsewhere by now."""
    cursor, _ = UsageCursor.objects.select_for_update().get_or_create(
        source=source, defaults={"log_id": log_id}
    )
    if cursor.log_id != log_id:
        cursor.log_id, cursor.offset = log_id, 0
    if cursor.offset != after:
        return False
    ParkedUsage.objects.get_or_create(
        request_id=_request_uuid(record.request_id),
        defaults={"source": source, "reason": reason[:200], "record": _storable(record)},
    )
    cursor.offset = next_offset
    cursor.save(update_fields=["log_id", "offset", "updated_at"])
    return True


def _request_uuid(request_id: str) -> UUID:
    try:
        return UUID(request_id)
    except ValueError:
        return uuid5(NAMESPACE_OID, request_id)


def _storable(record: UsageRecord) -> dict[str, object]:
    """The record without NUL characters, which Postgres takes in no text."""
    fields: dict[str, object] = msgspec.to_builtins(record)
    return {
        name: value.replace("\0", "\N{REPLACEMENT CHARACTER}") if isinstance(value, str) else value
        for name, value in fields.items()
    }
