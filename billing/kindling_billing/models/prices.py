"""The price book: versions that are never edited, and the plans that give an owner prices of their own."""

from django.db import models

from kindling_billing.models.base import plan_id, price_id, utc_now

OF_THE_BOOK = ""


class PriceVersion(models.Model):
    """Prices of one sku from a moment on, in pico-dollars; never edited.

    `plan_id` is "" for the book that holds for everybody. Reasoning tokens cost what output costs when their price is
    null. `gpu_ms_picousd` is for a millisecond of a replica of an owner's own deployment; with 0 such time has no price
    and waits for one. `batch_percent` is the part of a price that batch work pays.
    """

    id = models.CharField(primary_key=True, max_length=32, default=price_id, editable=False)
    plan_id = models.CharField(max_length=32, blank=True, default=OF_THE_BOOK)
    sku = models.CharField(max_length=64)
    input_picousd = models.BigIntegerField()
    cached_input_picousd = models.BigIntegerField()
    output_picousd = models.BigIntegerField()
    reasoning_picousd = models.BigIntegerField(null=True, blank=True)
    gpu_ms_picousd = models.BigIntegerField(default=0)
    batch_percent = models.PositiveSmallIntegerField(default=50)
    valid_from = models.DateTimeField(default=utc_now)
    created_at = models.DateTimeField(default=utc_now)
    created_by = models.CharField(max_length=200, blank=True)

    class Meta:
        indexes = [models.Index(fields=["sku", "-valid_from"])]
        constraints = [
            models.CheckConstraint(
                condition=models.Q(input_picousd__gte=0, cached_input_picousd__gte=0, output_picousd__gte=0),
                name="prices_are_not_negative",
            ),
            models.CheckConstraint(
                condition=models.Q(gpu_ms_picousd__gte=0, batch_percent__lte=100)
                & (models.Q(reasoning_picousd=None) | models.Q(reasoning_picousd__gte=0)),
                name="later_prices_are_not_negative",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.sku} from {self.valid_from:%Y-%m-%d %H:%M}"


class PricePlan(models.Model):
    """A set of prices that owners can be put on; what it does not price, the book does."""

    id = models.CharField(primary_key=True, max_length=32, default=plan_id, editable=False)
    name = models.CharField(max_length=80, unique=True)
    created_at = models.DateTimeField(default=utc_now)
    created_by = models.CharField(max_length=200, blank=True)

    def __str__(self) -> str:
        return self.name


class PlanTerm(models.Model):
    """From a moment on an owner is on a plan, or on none ("" as plan); never edited, the newest term holds."""

    id = models.BigAutoField(primary_key=True)
    owner_id = models.CharField(max_length=32)
    plan_id = models.CharField(max_length=32, blank=True)
    valid_from = models.DateTimeField(default=utc_now)
    created_at = models.DateTimeField(default=utc_now)
    created_by = models.CharField(max_length=200, blank=True)

    class Meta:
        indexes = [models.Index(fields=["owner_id", "-valid_from"])]

    def __str__(self) -> str:
        return f"{self.owner_id} on {self.plan_id or 'no plan'} from {self.valid_from:%Y-%m-%d %H:%M}"


class Rerating(models.Model):
    """One run that rates usage anew by its event time, in small steps; its id marks what it posts."""

    id = models.BigAutoField(primary_key=True)
    sku = models.CharField(max_length=64)
    owner_id = models.CharField(max_length=32, blank=True)
    start = models.DateTimeField()
    end = models.DateTimeField()
    reason = models.CharField(max_length=200)
    created_by = models.CharField(max_length=200, blank=True)
    created_at = models.DateTimeField(default=utc_now)
    cursor = models.CharField(max_length=36, blank=True)
    seen = models.BigIntegerField(default=0)
    changed = models.BigIntegerField(default=0)
    gaps = models.BigIntegerField(default=0)
    difference_picousd = models.DecimalField(max_digits=38, decimal_places=0, default=0)
    done_at = models.DateTimeField(null=True, blank=True)

    def __str__(self) -> str:
        return f"{self.id}: {self.sku} from {self.start:%Y-%m-%d} to {self.end:%Y-%m-%d}"
