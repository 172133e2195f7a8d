"""Bounded steps of what has to do with the payment provider; each may run twice, or be cut off anywhere."""

from django.conf import settings

from kindling_billing.amounts import CURRENCY
from kindling_billing.charging import (
    auto_topup_start,
    customer_id_get,
    invoice_charge_start,
    invoice_list_chargeable,
)
from kindling_billing.errors import BillingError
from kindling_billing.models import OutboxCall
from kindling_billing.money import round_half_even
from kindling_billing.outbox.sending import call_list_due, call_send
from kindling_billing.selectors import spendable_map
from kindling_billing.stripe_api import reading
from kindling_billing.stripe_api.client import StripeApi
from kindling_billing.stripe_api.outcomes import ProviderRefused
from kindling_billing.terms import auto_topup_pause, terms_get
from kindling_billing.topup import auto_topup_list_due
from kindling_billing.webhooks.reconciling import events_catch_up
from kindling_platform.accounts.models import Organisation
from kindling_platform.accounts.treasury import wallets_tell
from kindling_workers.complaints import complaints
from kindling_workers.valkey import valkey_client
from kindling_workers.wallets import Wallets

# So many requests at most in one run, or a slow provider would hold a worker; the rest is due in the next.
BATCH = 20
# What the provider says when it is the customer whose tax cannot be told; anything else is wrong with the account.
OF_THE_CUSTOMER = ("customer_tax_location_invalid", "resource_missing")


def outbox_send(api: StripeApi) -> int:
    """Make the attempts that are due; gives how many requests ended."""
    ended, due = 0, call_list_due(limit=BATCH)
    for call_id in due:
        call = call_send(api, call_id=call_id)
        ended += call.state != OutboxCall.State.WAITING
        if call.state == OutboxCall.State.WAITING and call.trouble:
            complaints.complain("payment provider", f"{call.trouble_code}: {call.trouble}")
        else:
            complaints.content("payment provider")
        wallets_tell([call.owner_id])
    return ended


def topups_make(api: StripeApi) -> int:
    """Charge every owner who wants to be topped up and is below their threshold; gives how many were."""
    made = 0
    due = {owner_id: one.amount_cents for owner_id, one in auto_topup_list_due().items() if one.amount_cents}
    stopped = Organisation.objects.filter(id__in=due).exclude(suspended_at=None)
    for owner_id in due.keys() - set(stopped.values_list("id", flat=True)):
        try:
            tax_cents = _tax_cents(api, owner_id, due[owner_id])
        except ProviderRefused as error:
            if error.param.startswith("customer") or error.code in OF_THE_CUSTOMER:
                auto_topup_pause(owner_id=owner_id, reason=error.message)  # theirs to mend
            else:
                complaints.complain("taxes of top-ups", f"{error.code}: {error.message}")
            continue
        call = auto_topup_start(owner_id=owner_id, tax_cents=tax_cents)
        if call is not None:
            call_send(api, call_id=call.id)
            wallets_tell([owner_id])
            made += 1
    return made


def invoices_charge(api: StripeApi) -> int:
    """Charge the saved cards of those who have an open invoice; gives how many were."""
    made = 0
    for invoice_id in invoice_list_chargeable():
        try:
            call = invoice_charge_start(invoice_id=invoice_id)
        except BillingError as error:
            complaints.complain(f"invoice {invoice_id}", f"{error.code}: {error.message}")
            continue
        if call is not None:
            call_send(api, call_id=call.id)
            wallets_tell([call.owner_id])
            made += 1
    return made


def events_hear(api: StripeApi) -> int:
    """Take in what no webhook brought."""
    heard = events_catch_up(api)
    wallets_tell(heard.owner_ids)
    return heard.events


def wallet_tell(owner_id: str) -> None:
    """Bring the gateway's copy of what an owner may spend up to date. Errors: `redis.RedisError`."""
    balance = spendable_map(owner_ids=[owner_id]).get(owner_id)
    if balance is not None:
        Wallets(valkey_client()).posted(owner_id=owner_id, balance=balance, request_ids=[])


def _tax_cents(api: StripeApi, owner_id: str, amount_cents: int) -> int:
    if not settings.KINDLING_ENV.stripe_tax:
        rate = terms_get(owner_id=owner_id).tax_basis_points
        return round_half_even(amount_cents * rate, 10_000)
    customer_id = customer_id_get(owner_id=owner_id)
    if not customer_id:
        return 0
    return reading.tax_read(api, customer_id=customer_id, amount_cents=amount_cents, currency=CURRENCY)
