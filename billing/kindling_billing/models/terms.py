"""What was agreed with an owner: paying before or after, limits, and topping up by itself."""

from django.db import models

from kindling_billing.models.base import utc_now
from kindling_billing.money import PICO_PER_USD

# A fifth of the dollar that a new organisation starts with by default: nobody is warned at their first request.
LOW_BY_DEFAULT_PICOUSD = PICO_PER_USD // 5


class Terms(models.Model):
    """How an owner pays. Owners without a row pay before they use. `version` grows with every change."""

    class Mode(models.TextChoices):
        PREPAID = "prepaid"
        POSTPAID = "postpaid"

    owner_id = models.CharField(primary_key=True, max_length=32)
    mode = models.CharField(max_length=16, choices=Mode.choices, default=Mode.PREPAID)
    # When paying after use ended last: what was used before is still invoiced.
    postpaid_until = models.DateTimeField(null=True, blank=True)
    credit_limit_picousd = models.BigIntegerField(default=0)
    net_days = models.PositiveSmallIntegerField(default=14)
    tax_basis_points = models.PositiveSmallIntegerField(default=0)
    # How many replicas of deployments that it makes for itself may run at once.
    own_replicas = models.PositiveSmallIntegerField(default=0, db_default=0)
    bill_to = models.TextField(blank=True)
    tax_id = models.CharField(max_length=40, blank=True)
    low_balance_picousd = models.BigIntegerField(default=LOW_BY_DEFAULT_PICOUSD)
    suspended_at = models.DateTimeField(null=True, blank=True)
    suspended_reason = models.CharField(max_length=200, blank=True)
    version = models.BigIntegerField(default=1)
    updated_at = models.DateTimeField(default=utc_now)

    def __str__(self) -> str:
        return f"{self.owner_id}: {self.mode}"


class AutoTopUp(models.Model):
    """An owner's wish to be charged when their balance falls below a threshold; amounts are cents."""

    owner_id = models.CharField(primary_key=True, max_length=32)
    enabled = models.BooleanField(default=False)
    threshold_cents = models.BigIntegerField()
    amount_cents = models.BigIntegerField()
    monthly_cap_cents = models.BigIntegerField()
    paused_reason = models.CharField(max_length=200, blank=True)
    updated_at = models.DateTimeField(default=utc_now)

    def __str__(self) -> str:
        return f"{self.owner_id}: {self.amount_cents} ¢ below {self.threshold_cents} ¢"


class Notice(models.Model):
    """Something that an owner or the operator should hear of; others fetch it, deliver it and mark it done.

    One that the mail server has refused waits for a person; `trouble` is what it said.
    """

    id = models.BigAutoField(primary_key=True)
    owner_id = models.CharField(max_length=32, blank=True)
    kind = models.CharField(max_length=40)
    key = models.CharField(max_length=120)
    data = models.JSONField(default=dict)
    created_at = models.DateTimeField(default=utc_now)
    done_at = models.DateTimeField(null=True, blank=True)
    refused_at = models.DateTimeField(null=True, blank=True)
    trouble = models.CharField(max_length=300, blank=True, default="", db_default="")

    class Meta:
        indexes = [
            models.Index(fields=["id"], condition=models.Q(done_at=None), name="billing_notice_waiting")
        ]
        constraints = [models.UniqueConstraint(fields=["kind", "key"], name="one_notice")]

    def __str__(self) -> str:
        return f"{self.kind} {self.owner_id}".strip()


class Proof(models.Model):
    """One run of the proof of the books, and what it found: an empty list of findings is a sound book."""

    id = models.BigAutoField(primary_key=True)
    run_at = models.DateTimeField(default=utc_now)
    checks = models.JSONField(default=dict)
    findings = models.JSONField(default=list)

    def __str__(self) -> str:
        return f"{self.run_at:%Y-%m-%d %H:%M}: {len(self.findings)} findings"

    @property
    def sound(self) -> bool:
        return not self.findings
