"""What the comparison with the payment provider's books looks like."""

from typing import Any

from rest_framework import serializers as s

from kindling_billing.comparing.causes import cause_get
from kindling_billing.models import ComparedDay, ComparedMovement, ProviderContact
from kindling_platform.api.rows import plain_row

DAY = (
    "day",
    "movements",
    "differing",
    "waiting",
    "stripe_cents",
    "booked_cents",
    "moved_cents",
    "asked_cents",
)


class ComparedDayShape(s.Serializer[object]):
    day = s.DateField(help_text="Of UTC, the provider's.")
    movements = s.IntegerField()
    differing = s.IntegerField()
    waiting = s.IntegerField()
    stripe_cents = s.IntegerField(help_text="What the provider lists.")
    booked_cents = s.IntegerField(help_text="What customers were credited through clearing.")
    moved_cents = s.IntegerField(help_text="What clearing got from the provider's balance.")
    asked_cents = s.IntegerField(help_text="What the outbox asked for.")
    compared_at = s.DateTimeField()


class MovementShape(s.Serializer[object]):
    id = s.CharField()
    day = s.DateField()
    kind = s.CharField(help_text="charge, refund, dispute, request or other")
    happened_at = s.DateTimeField()
    organisation_id = s.CharField(allow_blank=True)
    payment_id = s.CharField(allow_blank=True)
    intent_id = s.CharField(allow_blank=True)
    stripe_cents = s.IntegerField(allow_null=True, help_text="null: this witness says nothing.")
    booked_cents = s.IntegerField(allow_null=True)
    moved_cents = s.IntegerField(allow_null=True)
    asked_cents = s.IntegerField(allow_null=True)
    verdict = s.CharField(help_text="agrees, waits, noted or differs")
    cause = s.CharField(allow_blank=True)
    what_is_wrong = s.CharField(allow_blank=True)
    next_step = s.CharField(allow_blank=True)
    detail = s.CharField(allow_blank=True)
    accepted_at = s.DateTimeField(allow_null=True)
    accepted_by = s.CharField(allow_blank=True)
    accepted_note = s.CharField(allow_blank=True)


class ReconciliationShape(s.Serializer[object]):
    payments_on = s.BooleanField()
    compared_at = s.DateTimeField(allow_null=True, help_text="When the provider last answered in full.")
    failed_at = s.DateTimeField(allow_null=True)
    trouble = s.CharField(allow_blank=True, help_text="What has stood in the way since.")
    differing = s.IntegerField(help_text="Of all days, those that were accepted left out.")
    differences = MovementShape(many=True, help_text="The newest 100 of them.")
    data = ComparedDayShape(many=True)  # type: ignore[assignment]  # DRF takes fields out of the class


def compared_day_row(day: ComparedDay) -> dict[str, Any]:
    return plain_row(day, *DAY, "compared_at")


def movement_row(movement: ComparedMovement) -> dict[str, Any]:
    names = (
        "id", "day", "kind", "happened_at", "payment_id", "intent_id", "stripe_cents", "booked_cents", "moved_cents",
        "asked_cents", "verdict", "cause", "detail", "accepted_at", "accepted_by", "accepted_note",
    )  # fmt: skip
    cause = cause_get(movement.cause)
    return {
        **plain_row(movement, *names),
        "organisation_id": movement.owner_id,
        "what_is_wrong": cause.title if cause else "",
        "next_step": cause.next_step if cause else "",
    }


def contact_row(contact: ProviderContact) -> dict[str, Any]:
    return {"compared_at": contact.made_at, **plain_row(contact, "failed_at", "trouble")}
