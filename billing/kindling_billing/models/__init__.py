"""The tables of the books."""

from kindling_billing.models.base import account_id, price_id, transaction_id, utc_now
from kindling_billing.models.credits import CreditGrant
from kindling_billing.models.ledger import LedgerAccount, LedgerEntry, LedgerTransaction
from kindling_billing.models.payments import Dispute, Payment
from kindling_billing.models.prices import PlanTerm, PricePlan, PriceVersion

__all__ = [
    "CreditGrant",
    "Dispute",
    "LedgerAccount",
    "LedgerEntry",
    "LedgerTransaction",
    "Payment",
    "PlanTerm",
    "PricePlan",
    "PriceVersion",
    "account_id",
    "price_id",
    "transaction_id",
    "utc_now",
]
