"""Records that could not be billed, tried again once the operator has mended what was missing."""

from uuid import UUID

import msgspec
from django.db import transaction

from kindling_engine.protocol.usage_log import UsageRecord
from kindling_platform.audit.services import audit_record
from kindling_platform.common.actors import Actor
from kindling_platform.common.errors import KindlingError, not_found
from kindling_platform.usage.models import ParkedUsage
from kindling_platform.usage.services import records_book
from kindling_platform.usage.witnesses import records_judge, usage_lock


@transaction.atomic
def parked_release(*, request_id: UUID, actor: Actor) -> None:
    """Book a parked record as if it came in now: where it names no price, at the one that was in force at its time.

    Raises:
        KindlingError: `not_found`, `still_unbillable` with the reason.
    """
    parked = ParkedUsage.objects.select_for_update().filter(request_id=request_id).first()
    if parked is None:
        raise not_found("parked record")
    try:
        record = msgspec.convert(parked.record, UsageRecord)
    except msgspec.ValidationError as error:
        raise KindlingError("still_unbillable", f"The record cannot be read: {error}", 409) from error
    usage_lock()  # a gateway's word that the request failed comes before this, or is heard of by it
    booked = records_book(records_judge([record]), source=parked.source, price_by_time=True)
    if booked.parked:
        reason = booked.parked[0][1]
        ParkedUsage.objects.filter(request_id=request_id).update(reason=reason[:200])
        raise KindlingError("still_unbillable", reason, 409)
    parked.delete()
    audit_record(actor=actor, action="usage.released", target=str(request_id))


@transaction.atomic
def parked_dismiss(*, request_id: UUID, note: str, actor: Actor) -> None:
    """Give a parked record up: nobody is billed for it. The audit log keeps the whole record.

    Raises:
        KindlingError: `not_found`, `note_missing`.
    """
    if not note.strip():
        raise KindlingError("note_missing", "Say why nobody is billed for it.", param="note")
    parked = ParkedUsage.objects.select_for_update().filter(request_id=request_id).first()
    if parked is None:
        raise not_found("parked record")
    kept = {"source": parked.source, "reason": parked.reason, "record": parked.record}
    parked.delete()
    audit_record(
        actor=actor,
        action="usage.dismissed",
        target=str(request_id),
        data={"note": note.strip()[:300]},
        before=kept,
    )
