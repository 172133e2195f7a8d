"""Refunds that did not reach the customer, and requests and events that a person decides about."""

import pytest

from kindling_billing.errors import BillingError
from kindling_billing.models import CreditGrant, FailedRefund, Notice, OutboxCall, Payment, StripeEvent
from kindling_billing.outbox.deciding import call_close, call_retry
from kindling_billing.outbox.sending import call_send
from kindling_billing.proofs import books_prove
from kindling_billing.returns import failed_refund_list, refund_credit, refund_paid_otherwise
from kindling_billing.settlements import account_sum
from kindling_billing.webhooks.receiving import event_close
from kindling_billing.webhooks.reconciling import movements_book
from kindling_till import Till

pytestmark = pytest.mark.django_db


def came_back(till: Till, owner: str, cents: int = 700) -> str:
    """A refund that was booked, and then failed."""
    intent = Payment.objects.get(owner_id=owner).intent_id
    refund = till.fake.http.post("/v1/refunds", data={"payment_intent": intent, "amount": str(cents)}).json()
    till.deliver()
    till.fake.switch("refund_fail", refund=refund["id"])
    till.deliver(copies=2)
    movements_book(till.api)
    return str(refund["id"])


def test_a_refund_that_comes_back_is_noted_once_and_nothing_is_parked(till: Till):
    owner = till.owner()
    refund_id = came_back(till, owner)
    row = failed_refund_list().get(id=refund_id)
    assert (row.amount_cents, row.payment.owner_id, row.reason) == (700, owner, "expired_or_canceled_card")
    assert not StripeEvent.objects.filter(state="parked").exists()
    assert Notice.objects.filter(kind="provider.trouble", key=refund_id).count() == 1
    assert till.wallet(owner) == 1300


def test_it_is_given_back_as_credit_once(till: Till):
    owner = till.owner()
    refund_id = came_back(till, owner)
    refund_credit(refund_id=refund_id, resolved_by="op@example.com")
    payment = Payment.objects.get(owner_id=owner)
    assert (till.wallet(owner), payment.refunded_cents) == (2000, 0)
    assert CreditGrant.objects.get(source_type="refund_returned").kind == "returned"
    with pytest.raises(BillingError, match="was credited already"):
        refund_credit(refund_id=refund_id, resolved_by="op@example.com")
    assert books_prove().findings == []


def test_tax_comes_back_with_it(till: Till):
    owner = till.stranger()
    till.pay(till.checkout(owner, 1000, tax_cents=190))
    till.deliver()
    refund_id = came_back(till, owner, 595)
    taxed = account_sum("tax")
    refund_credit(refund_id=refund_id, resolved_by="op")
    payment = Payment.objects.get(owner_id=owner)
    assert (payment.refunded_cents, payment.refunded_tax_cents) == (0, 0)
    assert (account_sum("tax") - taxed, till.wallet(owner)) == (95 * 10**10, 1000)


def test_paying_otherwise_leaves_the_refund_and_empties_clearing(till: Till):
    owner = till.owner()
    refund_id = came_back(till, owner)
    clearing, bank = account_sum("stripe_clearing"), account_sum("bank")
    with pytest.raises(BillingError, match="Say how it was paid"):
        refund_paid_otherwise(refund_id=refund_id, note="", resolved_by="op")
    refund_paid_otherwise(refund_id=refund_id, note="Transfer 4711", resolved_by="op")
    assert clearing - account_sum("stripe_clearing") == 700 * 10**10
    assert (account_sum("bank") - bank, till.wallet(owner)) == (700 * 10**10, 1300)
    assert FailedRefund.objects.get(id=refund_id).note == "Transfer 4711"


def test_a_refund_that_failed_before_it_was_booked_needs_nobody(till: Till):
    owner = till.owner()
    intent = Payment.objects.get(owner_id=owner).intent_id
    refund = till.fake.http.post("/v1/refunds", data={"payment_intent": intent, "amount": "700"}).json()
    till.fake.switch("refund_fail", refund=refund["id"])
    till.deliver()
    assert (till.wallet(owner), failed_refund_list(is_open=False).count()) == (2000, 0)


def test_a_stuck_request_is_looked_up_before_it_is_sent_again(till: Till):
    owner = till.owner()
    till.wish(owner, cap=500)
    call = till.auto(owner)
    assert call is not None
    before = len(till.paid_intents())
    till.send()
    # As if the books had refused what Stripe has done.
    OutboxCall.objects.filter(id=call.id).update(state="stuck", trouble="The books cannot take it.")
    call_retry(call_id=call.id, now=till.now())
    assert call_send(till.api, call_id=call.id, now=till.now()).state == "done"
    assert len(till.paid_intents()) == before + 1
    with pytest.raises(BillingError, match="no such request"):
        call_retry(call_id=call.id)


def test_a_closed_request_ends_its_payment(till: Till):
    owner = till.owner()
    till.wish(owner, cap=500)
    call = till.auto(owner)
    assert call is not None
    OutboxCall.objects.filter(id=call.id).update(state="stuck")
    with pytest.raises(BillingError, match="Say what was done"):
        call_close(call_id=call.id, note=" ")
    call_close(call_id=call.id, note="Charged by hand")
    payment = Payment.objects.get(id=call.subject)
    assert (payment.state, payment.failure) == ("failed", "Charged by hand")


def test_a_parked_event_is_closed_with_a_note(till: Till):
    StripeEvent.objects.create(
        id="evt_1", type="refund.failed", state="parked", reason="x", happened_at=till.now()
    )
    with pytest.raises(BillingError, match="Say what was done"):
        event_close(event_id="evt_1", note="")
    assert event_close(event_id="evt_1", note="Mended in the dashboard").state == "closed"
    with pytest.raises(BillingError, match="no parked event"):
        event_close(event_id="evt_1", note="Again")
