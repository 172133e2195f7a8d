"""Money asked of customers, and what became of it."""

from django.db import models

from kindling_billing.models.base import payment_id, utc_now


class Payment(models.Model):
    """One attempt to be paid: a top-up by hand or by itself, or the sum of an invoice. Amounts are cents."""

    class Purpose(models.TextChoices):
        TOPUP = "topup"
        AUTO_TOPUP = "auto_topup"
        INVOICE = "invoice"

    class State(models.TextChoices):
        OPEN = "open"
        SUCCEEDED = "succeeded"
        FAILED = "failed"

    id = models.CharField(primary_key=True, max_length=32, default=payment_id, editable=False)
    owner_id = models.CharField(max_length=32)
    purpose = models.CharField(max_length=16, choices=Purpose.choices)
    state = models.CharField(max_length=16, choices=State.choices, default=State.OPEN)
    amount_cents = models.BigIntegerField()
    tax_cents = models.BigIntegerField(default=0)
    currency = models.CharField(max_length=3, default="usd")
    intent_id = models.CharField(max_length=64, blank=True)
    invoice_id = models.CharField(max_length=32, blank=True)
    failure_code = models.CharField(max_length=64, blank=True)
    failure = models.CharField(max_length=300, blank=True)
    refunded_cents = models.BigIntegerField(default=0)
    refunded_tax_cents = models.BigIntegerField(default=0)
    created_at = models.DateTimeField(default=utc_now)
    ended_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        indexes = [models.Index(fields=["owner_id", "-created_at"], name="billing_payment_owner")]
        constraints = [
            models.UniqueConstraint(
                fields=["intent_id"], condition=~models.Q(intent_id=""), name="one_payment_per_intent"
            ),
            models.UniqueConstraint(
                fields=["owner_id"],
                condition=models.Q(purpose="auto_topup", state="open"),
                name="one_open_auto_topup",
            ),
            models.UniqueConstraint(
                fields=["invoice_id"],
                condition=models.Q(purpose="invoice", state="open"),
                name="one_open_payment_per_invoice",
            ),
            models.CheckConstraint(
                condition=models.Q(amount_cents__gt=0, tax_cents__gte=0), name="payment_is_positive"
            ),
            models.CheckConstraint(
                condition=models.Q(
                    refunded_cents__gte=0,
                    refunded_cents__lte=models.F("amount_cents") + models.F("tax_cents"),
                ),
                name="refunds_within_payment",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.purpose} of {self.amount_cents} ¢: {self.state}"

    @property
    def total_cents(self) -> int:
        """What the customer's card was charged."""
        return self.amount_cents + self.tax_cents


class Dispute(models.Model):
    """A payment that the cardholder's bank contests; its amount is frozen until it is decided."""

    class State(models.TextChoices):
        OPEN = "open"
        WON = "won"
        LOST = "lost"

    id = models.CharField(primary_key=True, max_length=64)
    payment = models.ForeignKey(Payment, on_delete=models.PROTECT, related_name="disputes")
    state = models.CharField(max_length=8, choices=State.choices, default=State.OPEN)
    amount_cents = models.BigIntegerField()
    tax_cents = models.BigIntegerField(default=0)
    opened_at = models.DateTimeField(default=utc_now)
    closed_at = models.DateTimeField(null=True, blank=True)

    def __str__(self) -> str:
        return f"{self.id}: {self.state}"


class FailedRefund(models.Model):
    """A booked refund that did not reach the customer; the provider has returned the money to us.

    One that failed before it was booked stays out of the books, whatever else is heard of it: it is noted as UNBOOKED.
    """

    class State(models.TextChoices):
        OPEN = "open"
        CREDITED = "credited"
        PAID = "paid"
        UNBOOKED = "unbooked"

    id = models.CharField(primary_key=True, max_length=64)
    payment = models.ForeignKey(Payment, on_delete=models.PROTECT, related_name="failed_refunds")
    amount_cents = models.BigIntegerField()
    reason = models.CharField(max_length=200, blank=True)
    state = models.CharField(max_length=8, choices=State.choices, default=State.OPEN)
    note = models.CharField(max_length=300, blank=True)
    heard_at = models.DateTimeField(default=utc_now)
    resolved_at = models.DateTimeField(null=True, blank=True)
    resolved_by = models.CharField(max_length=200, blank=True)

    def __str__(self) -> str:
        return f"{self.id}: {self.state}"
