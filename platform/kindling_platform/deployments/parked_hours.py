"""GPU hours that could not be billed: those that wait, and giving one up."""

from django.db import transaction
from django.db.models import QuerySet

from kindling_platform.audit.services import audit_record
from kindling_platform.common.actors import Actor
from kindling_platform.common.errors import KindlingError, not_found
from kindling_platform.deployments.models import GpuHour


def parked_hour_list() -> QuerySet[GpuHour]:
    """Every hour that waits for a price, newest first."""
    return GpuHour.objects.filter(state=GpuHour.State.PARKED).order_by("-created_at", "-id")


@transaction.atomic
def parked_hour_dismiss(*, hour_id: int, note: str, actor: Actor) -> GpuHour:
    """Give a parked hour up: nobody is ever billed for it.

    Raises:
        KindlingError: `not_found`, `note_missing`.
    """
    if not note.strip():
        raise KindlingError("note_missing", "Say why nobody is billed for it.", param="note")
    row: GpuHour | None = (
        GpuHour.objects.select_for_update().filter(id=hour_id, state=GpuHour.State.PARKED).first()
    )
    if row is None:
        raise not_found("parked GPU hour")
    row.state = GpuHour.State.GIVEN_UP
    row.save(update_fields=["state"])
    audit_record(
        actor=actor, action="gpu_time.given_up", target=row.deployment_id, organisation_id=row.organisation_id,
        data={"hour": row.hour.isoformat(), "held_ms": row.held_ms, "note": note.strip()[:300]},
    )  # fmt: skip
    return row
