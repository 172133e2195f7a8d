"""What is known of the payment provider: customers and cards there, calls to make, events heard, reconciliations."""

from django.db import models

from kindling_billing.models.base import call_id, utc_now


class StripeCustomer(models.Model):
    """An owner as the provider knows them; `generation` grows when their customer there was deleted."""

    owner_id = models.CharField(primary_key=True, max_length=32)
    customer_id = models.CharField(max_length=64, blank=True)
    generation = models.PositiveIntegerField(default=1)
    created_at = models.DateTimeField(default=utc_now)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["customer_id"], condition=~models.Q(customer_id=""), name="one_stripe_customer"
            )
        ]

    def __str__(self) -> str:
        return f"{self.owner_id}: {self.customer_id or 'none yet'}"


class SavedCard(models.Model):
    """A card that an owner left with the provider, as much of it as may be shown."""

    id = models.CharField(primary_key=True, max_length=64)
    owner_id = models.CharField(max_length=32)
    brand = models.CharField(max_length=20)
    last4 = models.CharField(max_length=4)
    exp_month = models.PositiveSmallIntegerField()
    exp_year = models.PositiveSmallIntegerField()
    fingerprint = models.CharField(max_length=64, blank=True)
    is_default = models.BooleanField(default=False)
    created_at = models.DateTimeField(default=utc_now)
    removed_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        indexes = [models.Index(fields=["owner_id"], name="billing_card_owner")]
        constraints = [
            models.UniqueConstraint(
                fields=["owner_id"], condition=models.Q(is_default=True), name="one_default_card"
            )
        ]

    def __str__(self) -> str:
        return f"{self.brand} {self.last4}"


class OutboxCall(models.Model):
    """One request to the provider, written with its cause and sent afterwards; it ends once.

    `waiting` goes on until the provider has said yes or no: `done` or `refused`. `stuck` needs the operator, who tries
    it again or has it `closed`. The key is the same for every attempt of a `round`; a new round begins only after a
    look-up has shown that the last one did nothing.
    """

    class Kind(models.TextChoices):
        CUSTOMER = "customer"
        CHECKOUT = "checkout"
        CHARGE = "charge"
        REFUND = "refund"
        FORGET_CARD = "forget_card"

    class State(models.TextChoices):
        WAITING = "waiting"
        DONE = "done"
        REFUSED = "refused"
        STUCK = "stuck"
        CLOSED = "closed"

    id = models.CharField(primary_key=True, max_length=32, default=call_id, editable=False)
    kind = models.CharField(max_length=16, choices=Kind.choices)
    subject = models.CharField(max_length=80)
    owner_id = models.CharField(max_length=32)
    params = models.JSONField(default=dict)
    state = models.CharField(max_length=8, choices=State.choices, default=State.WAITING)
    round = models.PositiveSmallIntegerField(default=1)
    attempts = models.PositiveIntegerField(default=0)
    due_at = models.DateTimeField(default=utc_now)
    first_sent_at = models.DateTimeField(null=True, blank=True)
    lease_token = models.CharField(max_length=32, blank=True)
    lease_expires_at = models.DateTimeField(null=True, blank=True)
    result_id = models.CharField(max_length=80, blank=True)
    result_url = models.TextField(blank=True)
    trouble_code = models.CharField(max_length=64, blank=True)
    trouble = models.CharField(max_length=300, blank=True)
    created_at = models.DateTimeField(default=utc_now)
    ended_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        indexes = [
            models.Index(fields=["due_at"], condition=models.Q(state="waiting"), name="billing_outbox_due")
        ]
        constraints = [models.UniqueConstraint(fields=["kind", "subject"], name="one_call")]

    def __str__(self) -> str:
        return f"{self.kind} {self.subject}: {self.state}"

    @property
    def key(self) -> str:
        """The idempotency key of this round."""
        return f"{self.id}:{self.round}"


class StripeEvent(models.Model):
    """An event that was heard; inserted with its effect, so that it has one. A parked one waits for the operator."""

    class State(models.TextChoices):
        APPLIED = "applied"
        IGNORED = "ignored"
        PARKED = "parked"
        CLOSED = "closed"

    id = models.CharField(primary_key=True, max_length=80)
    type = models.CharField(max_length=64)
    state = models.CharField(max_length=8, choices=State.choices)
    reason = models.CharField(max_length=300, blank=True)
    happened_at = models.DateTimeField()
    heard_at = models.DateTimeField(default=utc_now)

    class Meta:
        indexes = [
            models.Index(fields=["heard_at"], condition=models.Q(state="parked"), name="billing_event_parked")
        ]

    def __str__(self) -> str:
        return f"{self.type} {self.id}: {self.state}"


class ProviderMark(models.Model):
    """Until when one of the provider's lists was read."""

    name = models.CharField(primary_key=True, max_length=32)
    read_until = models.DateTimeField()

    def __str__(self) -> str:
        return f"{self.name} until {self.read_until:%Y-%m-%d %H:%M}"


class Reconciliation(models.Model):
    """One comparison of the provider's books with ours; no findings mean that they agree."""

    id = models.BigAutoField(primary_key=True)
    run_at = models.DateTimeField(default=utc_now)
    figures = models.JSONField(default=dict)
    findings = models.JSONField(default=list)

    def __str__(self) -> str:
        return f"{self.run_at:%Y-%m-%d %H:%M}: {len(self.findings)} findings"
