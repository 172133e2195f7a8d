"""Credit that was given or bought, and what is left of it."""

from django.db import models

from kindling_billing.models.base import grant_id, utc_now


class CreditGrant(models.Model):
    """One portion of a wallet's money; the open portions sum to the balance while it is above zero."""

    class Kind(models.TextChoices):
        PROMO = "promo"
        PAID = "paid"
        RETURNED = "returned"

    id = models.CharField(primary_key=True, max_length=32, default=grant_id, editable=False)
    owner_id = models.CharField(max_length=32)
    kind = models.CharField(max_length=16, choices=Kind.choices)
    amount_picousd = models.DecimalField(max_digits=38, decimal_places=0)
    remaining_picousd = models.DecimalField(max_digits=38, decimal_places=0, default=0)
    source_type = models.CharField(max_length=32)
    source_id = models.CharField(max_length=64)
    memo = models.CharField(max_length=200, blank=True)
    expires_at = models.DateTimeField(null=True, blank=True)
    expired_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(default=utc_now)

    class Meta:
        indexes = [
            models.Index(fields=["owner_id", "expires_at"], name="billing_grant_owner"),
            models.Index(
                fields=["expires_at"], condition=models.Q(expired_at=None), name="billing_grant_to_expire"
            ),
        ]
        constraints = [
            models.UniqueConstraint(fields=["source_type", "source_id"], name="one_grant"),
            models.CheckConstraint(
                condition=models.Q(
                    remaining_picousd__gte=0, remaining_picousd__lte=models.F("amount_picousd")
                ),
                name="grant_within_its_amount",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.amount_picousd} of {self.owner_id}"
