"""The double-entry ledger. Posted rows are protected by triggers in the database."""

from django.db import models
from django.db.models.fields.json import KT

from kindling_billing.models.base import account_id, transaction_id, utc_now


class LedgerAccount(models.Model):
    """An account and its balance: the sum of its entries. `version` grows with every posting."""

    class Kind(models.TextChoices):
        WALLET = "wallet"
        PROMO = "promo"
        RECEIVABLE = "receivable"
        REVENUE = "revenue"
        STRIPE_CLEARING = "stripe_clearing"
        TAX = "tax"
        ADJUSTMENT = "adjustment"
        ROUNDING = "rounding"
        DISPUTED = "disputed"
        DISPUTE_CLAIM = "dispute_claim"
        BAD_DEBT = "bad_debt"
        STRIPE_BALANCE = "stripe_balance"
        STRIPE_FEES = "stripe_fees"
        BANK = "bank"

    id = models.CharField(primary_key=True, max_length=32, default=account_id, editable=False)
    kind = models.CharField(max_length=16, choices=Kind.choices)
    owner_id = models.CharField(max_length=32, blank=True)
    balance_picousd = models.DecimalField(max_digits=38, decimal_places=0, default=0)
    version = models.BigIntegerField(default=0)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["kind", "owner_id"], name="one_account")]

    def __str__(self) -> str:
        return f"{self.kind} {self.owner_id}".strip()


class LedgerTransaction(models.Model):
    """One movement of money, with the one cause that may ever post it."""

    id = models.CharField(primary_key=True, max_length=32, default=transaction_id, editable=False)
    source_type = models.CharField(max_length=32)
    source_id = models.CharField(max_length=64)
    memo = models.CharField(max_length=200, blank=True)
    data = models.JSONField(default=dict)
    posted_at = models.DateTimeField(default=utc_now)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["source_type", "source_id"], name="one_posting")]
        # A deployment's newest hours are found however many there are, and whatever stands between: ids grow with time.
        indexes = [
            models.Index(
                KT("data__deployment"),
                "id",
                condition=models.Q(source_type="gpu_time"),
                name="ledger_gpu_hours",
            )
        ]

    def __str__(self) -> str:
        return f"{self.source_type} {self.source_id}"


class LedgerEntry(models.Model):
    """One side of a transaction; positive is money to the account."""

    id = models.BigAutoField(primary_key=True)
    # A trigger looks once per statement whether both are there; a foreign key would look once per row and column.
    transaction = models.ForeignKey(
        LedgerTransaction, on_delete=models.PROTECT, related_name="entries", db_constraint=False
    )
    account = models.ForeignKey(
        LedgerAccount, on_delete=models.PROTECT, related_name="entries", db_constraint=False, db_index=False
    )
    amount_picousd = models.DecimalField(max_digits=38, decimal_places=0)

    class Meta:
        indexes = [models.Index(fields=["account", "-id"])]

    def __str__(self) -> str:
        return f"{self.account}: {self.amount_picousd}"
