"""What events of the audit log look like."""

from typing import Any

from rest_framework import serializers as s

from kindling_platform.api.rows import plain_row
from kindling_platform.audit.models import AuditEvent

NAMES = (
    "id", "created_at", "actor_id", "actor_label", "ip", "request_id", "action", "target", "organisation_id",
)  # fmt: skip


class AuditEventShape(s.Serializer[object]):
    id = s.CharField()
    created_at = s.DateTimeField()
    actor_id = s.CharField(allow_blank=True, help_text="A user or a key; empty for the platform itself.")
    actor_label = s.CharField()
    ip = s.CharField(allow_null=True)
    request_id = s.CharField(allow_blank=True)
    action = s.CharField()
    target = s.CharField()
    organisation_id = s.CharField(allow_blank=True)
    data = s.DictField(  # type: ignore[assignment]  # DRF takes fields out of the class
        help_text="What was done; under `before` and `after` the values that changed."
    )


def audit_event_row(event: AuditEvent) -> dict[str, Any]:
    return {**plain_row(event, *NAMES), "data": event.data}
