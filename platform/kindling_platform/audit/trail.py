"""Keeps the money actions that billing tells of, in the transaction in which the money moves."""

from typing import Any

from kindling_platform.audit.services import audit_record
from kindling_platform.common.origin import origin_get


def money_action_keep(
    *,
    action: str,
    owner_id: str,
    target: str,
    before: dict[str, Any] | None,
    after: dict[str, Any] | None,
) -> None:
    """Write down what billing did, by whoever makes the request at hand, else by the platform itself."""
    audit_record(
        actor=origin_get().actor,
        action=action,
        target=target,
        organisation_id=owner_id,
        before=before,
        after=after,
    )
