"""Reads the audit log."""

from kindling_platform.audit.models import AuditEvent
from kindling_platform.common.tenancy import HasId


def event_list(*, org: HasId, limit: int = 100) -> list[AuditEvent]:
    """The newest events of an organisation."""
    return list(AuditEvent.objects.for_org(org).order_by("-created_at", "-id")[:limit])
