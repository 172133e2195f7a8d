"""Reconciliation: what nobody told is booked, and what cannot agree is said."""

from collections.abc import Iterator

import pytest

from kindling_billing.models import OutboxCall, Payment, StripeEvent
from kindling_billing.selectors import drift_list, ledger_sum
from kindling_billing.settlements import account_sum
from kindling_billing.webhooks.reconciling import events_catch_up, movements_book, reconcile
from kindling_fake_stripe import FakeStripe
from kindling_till import Till

pytestmark = pytest.mark.django_db


@pytest.fixture
def till(fresh_stripe: FakeStripe) -> Iterator[Till]:
    yield Till(fresh_stripe, fresh_stripe.api())


def test_books_that_agree_have_no_findings(till: Till):
    till.owner()
    row, _ = reconcile(till.api, now=till.now())
    assert row.findings == []
    assert row.figures["paid_cents"] == "2000"
    assert account_sum("stripe_clearing") == 0
    assert row.figures["stripe_balance_cents"] == row.figures["booked_balance_cents"] == str(2000 - 88)


def test_webhooks_that_never_came_are_made_up_for(till: Till):
    owner = till.stranger()
    till.pay(till.checkout(owner))
    till.fake.webhooks()
    heard = events_catch_up(till.api)
    assert (heard.owner_ids, till.wallet(owner)) == ({owner}, 2000)
    assert events_catch_up(till.api).events == 0


def test_a_payment_whose_event_is_gone_is_found_among_the_payments(till: Till):
    owner = till.stranger()
    till.pay(till.checkout(owner))
    events_catch_up(till.api)
    session = till.pay(till.checkout(owner, 700))
    # As if the event had been taken in and its effect been lost.
    for one in till.fake.rows("events"):
        StripeEvent.objects.get_or_create(
            id=one["id"], defaults={"type": one["type"], "state": "applied", "happened_at": till.now()}
        )
    row, owners = reconcile(till.api, now=till.now())
    assert (row.findings, owners, till.wallet(owner)) == ([], {owner}, 2700)
    assert Payment.objects.filter(intent_id=session["payment_intent"]).exists()


def test_a_page_that_closed_unheard_is_looked_at(till: Till):
    owner = till.stranger()
    call = till.checkout(owner)
    till.advance(hours=26)
    till.fake.rows("checkout/sessions")
    for one in till.fake.rows("events"):
        StripeEvent.objects.create(id=one["id"], type=one["type"], state="applied", happened_at=till.now())
    reconcile(till.api, now=till.now())
    assert Payment.objects.get(id=call.subject).failure_code == "checkout_expired"


def test_a_payment_of_another_account_does_not_hold_up_the_rest(till: Till):
    lost, other = till.checkout(till.stranger()), till.checkout(till.stranger())
    till.pay(other)
    till.fake.webhooks()
    OutboxCall.objects.filter(id=lost.id).update(result_id="cs_test_elsewhere")
    till.advance(hours=26)
    row, _ = reconcile(till.api, now=till.now())
    assert [finding.split(" is open")[0] for finding in row.findings] == [f"Payment {lost.subject}"]
    assert (row.figures["clearing_cents"], till.wallet(other.owner_id)) == ("0", 2000)
    assert Payment.objects.get(id=lost.subject).failure_code == "resource_missing"
    assert reconcile(till.api, now=till.now())[0].findings == []


def test_refunds_disputes_and_payouts_leave_clearing_at_zero(till: Till):
    owner, other = till.owner(cents=5000), till.owner(cents=3000)
    intents = {row.owner_id: row.intent_id for row in Payment.objects.all()}
    till.fake.http.post("/v1/refunds", data={"payment_intent": intents[owner], "amount": "1250"})
    dispute = till.fake.switch("dispute", payment_intent=intents[other])
    till.fake.http.post("/v1/payouts", data={"amount": "1000", "currency": "usd"})
    row, _ = reconcile(till.api, now=till.now())
    assert row.findings == []
    assert (till.wallet(owner), till.wallet(other)) == (3750, 0)
    till.fake.switch("dispute_close", dispute=dispute["id"], won=True)
    row, _ = reconcile(till.api, now=till.now())
    assert (row.findings, till.wallet(other)) == ([], 3000)
    assert (account_sum("stripe_clearing"), ledger_sum(), drift_list()) == (0, 0, [])


def test_money_that_only_the_provider_knows_is_said(till: Till):
    asked = {"amount": "500", "currency": "usd", "payment_method": "pm_card_visa", "confirm": "true"}
    intent = till.fake.http.post("/v1/payment_intents", data=asked).json()
    row, _ = reconcile(till.api, now=till.now())
    assert f"Payment {intent['id']} was made at Stripe and not here." in row.findings
    assert "Clearing stands at 500 cents." in row.findings


def test_requests_that_stay_unresolved_are_said(till: Till):
    owner = till.owner()
    till.wish(owner)
    till.auto(owner)
    till.advance(hours=21)
    row, _ = reconcile(till.api, now=till.now())
    (call,) = OutboxCall.objects.filter(state="waiting")
    assert any(call.id in finding for finding in row.findings)


def test_movements_are_booked_once(till: Till):
    till.owner()
    assert movements_book(till.api) == 1
    assert movements_book(till.api) == 0
