"""The tables of the books."""

from kindling_billing.models.base import account_id, price_id, transaction_id, transaction_ids, utc_now
from kindling_billing.models.comparing import ComparedDay, ComparedMovement, ProviderContact
from kindling_billing.models.costs import HostedPrice, HourCost
from kindling_billing.models.credits import CreditGrant
from kindling_billing.models.invoices import Invoice, InvoiceLine, InvoiceSeries, UsageTotal
from kindling_billing.models.ledger import LedgerAccount, LedgerEntry, LedgerTransaction
from kindling_billing.models.payments import Dispute, FailedRefund, Payment
from kindling_billing.models.prices import PlanTerm, PricePlan, PriceVersion
from kindling_billing.models.provider import (
    OutboxCall,
    ProviderMark,
    Reconciliation,
    SavedCard,
    StripeCustomer,
    StripeEvent,
)
from kindling_billing.models.terms import AutoTopUp, Notice, Proof, Terms

__all__ = [
    "AutoTopUp",
    "ComparedDay",
    "ComparedMovement",
    "CreditGrant",
    "Dispute",
    "FailedRefund",
    "HostedPrice",
    "HourCost",
    "Invoice",
    "InvoiceLine",
    "InvoiceSeries",
    "LedgerAccount",
    "LedgerEntry",
    "LedgerTransaction",
    "Notice",
    "OutboxCall",
    "Payment",
    "PlanTerm",
    "PricePlan",
    "PriceVersion",
    "Proof",
    "ProviderContact",
    "ProviderMark",
    "Reconciliation",
    "SavedCard",
    "StripeCustomer",
    "StripeEvent",
    "Terms",
    "UsageTotal",
    "account_id",
    "price_id",
    "transaction_id",
    "transaction_ids",
    "utc_now",
]
