"""Writes the audit log; every service that changes something calls this inside its transaction."""

from typing import Any

from kindling_platform.audit.models import AuditEvent
from kindling_platform.common.actors import Actor
from kindling_platform.common.happenings import Happening, happening_tell
from kindling_platform.common.origin import origin_get


def audit_record(
    *,
    actor: Actor,
    action: str,
    target: str,
    organisation_id: str = "",
    data: dict[str, Any] | None = None,
    before: dict[str, Any] | None = None,
    after: dict[str, Any] | None = None,
) -> AuditEvent:
    """Add one event. `action` is `<noun>.<verb>`, `target` an id; never put a secret into what it says.

    `before` and `after` are the values that changed; the request at hand is noted by itself.
    """
    changed = {name: values for name, values in (("before", before), ("after", after)) if values is not None}
    event = AuditEvent.objects.create(
        organisation_id=organisation_id,
        actor_id=actor.id,
        actor_label=actor.label[:200],
        ip=actor.ip,
        request_id=origin_get().request_id,
        action=action,
        target=target[:120],
        data=(data or {}) | changed,
    )
    happening_tell(Happening(action, target, organisation_id, event.data))
    return event
