"""What became of comparing the provider's books with ours: by day, by movement, and when it last answered."""

from django.db import models

from kindling_billing.models.base import utc_now


class ComparedDay(models.Model):
    """One day (UTC, the provider's) as its witnesses tell it; sums are cents, with the sign they have for us."""

    day = models.DateField(primary_key=True)
    movements = models.PositiveIntegerField(default=0)
    stripe_cents = models.BigIntegerField(default=0)
    booked_cents = models.BigIntegerField(default=0)
    moved_cents = models.BigIntegerField(default=0)
    asked_cents = models.BigIntegerField(default=0)
    differing = models.PositiveIntegerField(default=0)
    waiting = models.PositiveIntegerField(default=0)
    compared_at = models.DateTimeField(default=utc_now)

    def __str__(self) -> str:
        return f"{self.day}: {self.differing} of {self.movements} differ"


class ComparedMovement(models.Model):
    """One charge, refund or dispute, or what only one witness knows of; null where a witness says nothing.

    `stripe_cents` is what the provider lists, `booked_cents` what customers were credited through clearing,
    `moved_cents` what clearing got from the provider's balance, `asked_cents` what the outbox asked for.
    """

    class Kind(models.TextChoices):
        CHARGE = "charge"
        REFUND = "refund"
        DISPUTE = "dispute"
        REQUEST = "request"
        OTHER = "other"

    class Verdict(models.TextChoices):
        AGREES = "agrees"
        WAITS = "waits"
        NOTED = "noted"
        DIFFERS = "differs"

    id = models.CharField(primary_key=True, max_length=80)
    day = models.DateField()
    kind = models.CharField(max_length=8, choices=Kind.choices)
    happened_at = models.DateTimeField()
    owner_id = models.CharField(max_length=32, blank=True)
    payment_id = models.CharField(max_length=32, blank=True)
    intent_id = models.CharField(max_length=64, blank=True)
    stripe_cents = models.BigIntegerField(null=True, blank=True)
    booked_cents = models.BigIntegerField(null=True, blank=True)
    moved_cents = models.BigIntegerField(null=True, blank=True)
    asked_cents = models.BigIntegerField(null=True, blank=True)
    verdict = models.CharField(max_length=8, choices=Verdict.choices)
    cause = models.CharField(max_length=32, blank=True)
    detail = models.CharField(max_length=300, blank=True)
    accepted_at = models.DateTimeField(null=True, blank=True)
    accepted_by = models.CharField(max_length=200, blank=True)
    accepted_note = models.CharField(max_length=300, blank=True)

    class Meta:
        indexes = [
            models.Index(fields=["-day", "-happened_at", "-id"], name="billing_compared_day"),
            models.Index(fields=["intent_id"], name="billing_compared_intent"),
            models.Index(
                fields=["day"], condition=models.Q(verdict="differs"), name="billing_compared_differing"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.id}: {self.cause or self.verdict}"


class ProviderContact(models.Model):
    """When the provider was last compared with, and what has stood in the way since."""

    name = models.CharField(primary_key=True, max_length=32)
    made_at = models.DateTimeField(null=True, blank=True)
    failed_at = models.DateTimeField(null=True, blank=True)
    trouble = models.CharField(max_length=300, blank=True)

    def __str__(self) -> str:
        return f"{self.name}: {self.trouble or 'well'}"
