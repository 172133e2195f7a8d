"""Adds requests to the outbox, inside the transaction of what causes them."""

from typing import Any

from kindling_billing.models import OutboxCall
from kindling_billing.models.base import call_id
from kindling_billing.stripe_api.calls import CALL


def call_add(*, kind: str, subject: str, owner_id: str, params: dict[str, Any]) -> OutboxCall:
    """Write a request, once per kind and subject; its id travels in the metadata, by which it is found again."""
    id_ = call_id()
    if OutboxCall.Kind(kind) != OutboxCall.Kind.FORGET_CARD:
        params = params | {"metadata": {**params.get("metadata", {}), CALL: id_}}
    call, _ = OutboxCall.objects.get_or_create(
        kind=kind, subject=subject, defaults={"id": id_, "owner_id": owner_id, "params": params}
    )
    return call
