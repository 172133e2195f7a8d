"""What serving costs the operator, and what others ask for the same: entered by hand, never edited."""

from django.db import models

from kindling_billing.models.base import utc_now

EVERY_MODEL = ""


class HourCost(models.Model):
    """What an hour of one replica costs from a moment on, for one sku or, with "", for those without their own.

    `note` says what it is for: the machine, the contract, the electricity.
    """

    id = models.BigAutoField(primary_key=True)
    sku = models.CharField(max_length=64, blank=True, default=EVERY_MODEL)
    picousd_per_hour = models.BigIntegerField()
    valid_from = models.DateTimeField(default=utc_now)
    note = models.CharField(max_length=200, blank=True)
    created_at = models.DateTimeField(default=utc_now)
    created_by = models.CharField(max_length=200, blank=True)

    class Meta:
        constraints = [
            models.CheckConstraint(condition=models.Q(picousd_per_hour__gte=0), name="hours_cost_something")
        ]

    def __str__(self) -> str:
        return f"an hour of {self.sku or 'any replica'} from {self.valid_from:%Y-%m-%d %H:%M}"


class HostedPrice(models.Model):
    """What a provider asks for a model like ours, in pico-dollars per token, as read on a day; the newest holds.

    Cached input costs what input costs when its price is null.
    """

    id = models.BigAutoField(primary_key=True)
    sku = models.CharField(max_length=64)
    input_picousd = models.BigIntegerField()
    cached_input_picousd = models.BigIntegerField(null=True, blank=True)
    output_picousd = models.BigIntegerField()
    source = models.CharField(max_length=200)
    quoted_on = models.DateField()
    created_at = models.DateTimeField(default=utc_now)
    created_by = models.CharField(max_length=200, blank=True)

    class Meta:
        indexes = [models.Index(fields=["sku", "-id"], name="billing_hosted_sku")]
        constraints = [
            models.CheckConstraint(
                condition=models.Q(input_picousd__gte=0, output_picousd__gte=0)
                & (models.Q(cached_input_picousd=None) | models.Q(cached_input_picousd__gte=0)),
                name="quotes_are_not_negative",
            )
        ]

    def __str__(self) -> str:
        return f"{self.sku} by {self.source} on {self.quoted_on}"
