"""What the last comparisons found, and accepting a difference that is explained."""

from datetime import date

from django.db import transaction
from django.db.models import F, QuerySet

from kindling_billing.errors import BillingError
from kindling_billing.models import ComparedDay, ComparedMovement, ProviderContact, utc_now

PROVIDER = "provider"


def day_list(*, since: date | None = None) -> QuerySet[ComparedDay]:
    """Compared days, newest first."""
    rows = ComparedDay.objects.order_by("-day")
    return rows.filter(day__gte=since) if since else rows


def day_get(*, day: date) -> ComparedDay:
    """One compared day.

    Raises:
        BillingError: `day_unknown`.
    """
    found = ComparedDay.objects.filter(day=day).first()
    if found is None:
        raise BillingError("day_unknown", f"{day} was not compared yet.")
    return found


def movement_list(*, day: date | None = None, since: date | None = None) -> QuerySet[ComparedMovement]:
    """The movements of a day, or of all since one, newest first."""
    rows = ComparedMovement.objects.order_by("-day", "-happened_at", "-id")
    if day is not None:
        rows = rows.filter(day=day)
    return rows.filter(day__gte=since) if since else rows


def difference_list() -> QuerySet[ComparedMovement]:
    """What differs and was not accepted, newest first."""
    return movement_list().filter(verdict=ComparedMovement.Verdict.DIFFERS, accepted_at=None)


def contact_get() -> ProviderContact:
    """When the provider was last compared with, and what has stood in the way since."""
    return ProviderContact.objects.filter(name=PROVIDER).first() or ProviderContact(name=PROVIDER)


def contact_note(*, trouble: str = "") -> None:
    """Note that the provider was compared with now, or what stood in the way."""
    changes = (
        {"failed_at": utc_now(), "trouble": trouble[:300]}
        if trouble
        else {"made_at": utc_now(), "trouble": ""}
    )
    ProviderContact.objects.update_or_create(name=PROVIDER, defaults=changes)


@transaction.atomic
def difference_accept(*, movement_id: str, note: str, accepted_by: str) -> ComparedMovement:
    """Note that a difference is explained; it counts again when its cause changes.

    Raises:
        BillingError: `difference_unknown`, `note_missing`.
    """
    if not note.strip():
        raise BillingError("note_missing", "Say why: whoever closes the books will read it.")
    rows = ComparedMovement.objects.select_for_update().filter(verdict=ComparedMovement.Verdict.DIFFERS)
    row = rows.filter(id=movement_id, accepted_at=None).first()
    if row is None:
        raise BillingError("difference_unknown", "There is no open difference of this id.")
    row.accepted_at, row.accepted_by = utc_now(), accepted_by[:200]
    row.accepted_note = note.strip()[:300]
    row.save(update_fields=["accepted_at", "accepted_by", "accepted_note"])
    ComparedDay.objects.filter(day=row.day, differing__gt=0).update(differing=F("differing") - 1)
    return row
