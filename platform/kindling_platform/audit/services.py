"""Writes the audit log; every service that changes something calls this inside its transaction."""

from typing import Any

from kindling_platform.audit.models import AuditEvent
from kindling_platform.common.actors import Actor


def audit_record(
    *, actor: Actor, action: str, target: str, organisation_id: str = "", data: dict[str, Any] | None = None
) -> AuditEvent:
    """Add one event. `action` is `<noun>.<verb>`, `target` an id; never put a secret into `data`."""
    return AuditEvent.objects.create(
        organisation_id=organisation_id,
        actor_id=actor.id,
        actor_label=actor.label[:200],
        ip=actor.ip,
        action=action,
        target=target[:120],
        data=data or {},
    )
