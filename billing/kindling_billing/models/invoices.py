"""What was used by month and price, and the invoices that are made of it."""

from django.db import models

from kindling_billing.models.base import invoice_id, utc_now

PICO_DIGITS = 38


class UsageTotal(models.Model):
    """All usage of an owner at one price, kept up to date by every posting: the lines that an invoice will have.

    `used_month` is when it was used; `billed_month` the invoice that it goes on, a later one when the invoice of its
    own month was final already. Both are the first of a month, UTC. The sku of requests is their model; that of GPU
    time, the unit `gpu_ms`, is its deployment.
    """

    id = models.BigAutoField(primary_key=True)
    owner_id = models.CharField(max_length=32)
    billed_month = models.DateField()
    used_month = models.DateField()
    sku = models.CharField(max_length=64, blank=True)
    unit = models.CharField(max_length=24)
    unit_price_picousd = models.BigIntegerField()
    label = models.CharField(max_length=160, blank=True)
    quantity = models.DecimalField(max_digits=PICO_DIGITS, decimal_places=0, default=0)
    amount_picousd = models.DecimalField(max_digits=PICO_DIGITS, decimal_places=0, default=0)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["owner_id", "billed_month", "used_month", "sku", "unit", "unit_price_picousd"],
                name="one_usage_total",
            )
        ]

    def __str__(self) -> str:
        return f"{self.owner_id} {self.used_month:%Y-%m} {self.sku} {self.unit}: {self.quantity}"


class Invoice(models.Model):
    """The usage of one month and what is owed for it; draft until its month's late events are in.

    `exact_picousd` is what the lines cost, `covered_picousd` what credit paid of it; `due_cents` and `tax_cents` are
    owed, and `rounding_picousd` is what rounding the lines to cents added to them.
    """

    class State(models.TextChoices):
        DRAFT = "draft"
        FINAL = "final"
        PAID = "paid"
        UNCOLLECTIBLE = "uncollectible"

    id = models.CharField(primary_key=True, max_length=32, default=invoice_id, editable=False)
    owner_id = models.CharField(max_length=32)
    month = models.DateField()
    state = models.CharField(max_length=16, choices=State.choices, default=State.DRAFT)
    year = models.PositiveSmallIntegerField(null=True, blank=True)
    number = models.PositiveIntegerField(null=True, blank=True)
    exact_picousd = models.DecimalField(max_digits=PICO_DIGITS, decimal_places=0, default=0)
    covered_picousd = models.DecimalField(max_digits=PICO_DIGITS, decimal_places=0, default=0)
    rounding_picousd = models.DecimalField(max_digits=PICO_DIGITS, decimal_places=0, default=0)
    subtotal_cents = models.BigIntegerField(default=0)
    due_cents = models.BigIntegerField(default=0)
    tax_cents = models.BigIntegerField(default=0)
    paid_cents = models.BigIntegerField(default=0)
    bill_to = models.TextField(blank=True)
    tax_id = models.CharField(max_length=40, blank=True)
    created_at = models.DateTimeField(default=utc_now)
    issued_at = models.DateTimeField(null=True, blank=True)
    due_at = models.DateTimeField(null=True, blank=True)
    closed_at = models.DateTimeField(null=True, blank=True)
    dunned = models.PositiveSmallIntegerField(default=0)
    dunned_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["owner_id", "month"], name="one_invoice_a_month"),
            models.UniqueConstraint(fields=["year", "number"], name="one_invoice_number"),
            models.CheckConstraint(
                condition=models.Q(state="draft", number=None)
                | ~models.Q(state="draft") & ~models.Q(number=None),
                name="final_invoices_are_numbered",
            ),
        ]

    def __str__(self) -> str:
        return self.name or f"draft of {self.month:%Y-%m}"

    @property
    def name(self) -> str:
        """The number that people read, "" while it is a draft."""
        return f"{self.year}-{self.number:06d}" if self.number is not None else ""

    @property
    def total_cents(self) -> int:
        """What is owed with tax."""
        return self.due_cents + self.tax_cents

    @property
    def open_cents(self) -> int:
        """What is still to be paid of it."""
        return self.total_cents - self.paid_cents

    @property
    def is_payable(self) -> bool:
        """Whether its owner may pay it."""
        return self.state in PAYABLE and self.paid_cents < self.total_cents


# What was given up may be paid by its owner; no card is charged with it by itself.
PAYABLE = (Invoice.State.FINAL, Invoice.State.UNCOLLECTIBLE)


class InvoiceLine(models.Model):
    """So many units at a price; `amount_cents` is the exact amount rounded once, half to even."""

    id = models.BigAutoField(primary_key=True)
    invoice = models.ForeignKey(Invoice, on_delete=models.PROTECT, related_name="lines")
    position = models.PositiveIntegerField()
    used_month = models.DateField()
    sku = models.CharField(max_length=64, blank=True)
    label = models.CharField(max_length=160, blank=True)
    unit = models.CharField(max_length=24)
    unit_price_picousd = models.BigIntegerField()
    quantity = models.DecimalField(max_digits=PICO_DIGITS, decimal_places=0)
    amount_picousd = models.DecimalField(max_digits=PICO_DIGITS, decimal_places=0)
    amount_cents = models.BigIntegerField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["invoice", "position"], name="one_line_per_position")]

    def __str__(self) -> str:
        return f"{self.label} {self.unit}: {self.amount_cents} ¢"


class InvoiceSeries(models.Model):
    """The next free number of a year; taken by the transaction that makes an invoice final, so that none is missing."""

    year = models.PositiveSmallIntegerField(primary_key=True)
    next_number = models.PositiveIntegerField(default=1)

    def __str__(self) -> str:
        return f"{self.year}: {self.next_number}"
