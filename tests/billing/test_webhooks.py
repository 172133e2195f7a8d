"""Webhooks: forged, stale, doubled, shuffled and impossible ones; whatever comes, the books take it once or park it."""

import itertools
import json
import time
from datetime import timedelta

import pytest

from kindling_billing.errors import BillingError
from kindling_billing.fake_stripe.deliveries import signature
from kindling_billing.models import AutoTopUp, Dispute, Payment, SavedCard, StripeCustomer, StripeEvent
from kindling_billing.notices import notice_list_waiting
from kindling_billing.saved_cards import card_default, card_list
from kindling_billing.settlements import account_sum
from kindling_billing.stripe_api.outcomes import ProviderAway
from kindling_billing.webhooks.receiving import event_retry, webhook_receive
from kindling_fake_stripe import SECRET
from kindling_till import Till

pytestmark = pytest.mark.django_db


def paid_on_page(till: Till, cents: int = 2000) -> tuple[str, str]:
    """An owner and the intent that they paid, of which nothing was told yet."""
    owner = till.stranger()
    session = till.pay(till.checkout(owner, cents))
    return owner, session["payment_intent"]


def signed(payload: str, *, secret: str = SECRET, age_s: int = 0) -> str:
    return signature(payload, secret=secret, at=int(time.time()) - age_s)


def refused(till: Till, payload: str, header: str) -> str:
    with pytest.raises(BillingError) as info:
        webhook_receive(till.api, payload=payload.encode(), header=header, secret=SECRET, now=till.now())
    return info.value.code


def only(till: Till, *types: str) -> list[dict[str, str]]:
    return [one for one in till.take() if json.loads(one["payload"])["type"] in types]


def test_forged_webhooks_are_refused(till: Till):
    owner, _ = paid_on_page(till)
    (one,) = only(till, "payment_intent.succeeded")
    changed = one["payload"].replace("2000", "9000")
    for payload, header in [
        (changed, one["signature"]),
        (one["payload"], signed(one["payload"], secret="whsec_wrong")),
        (one["payload"], ""),
        (one["payload"], "t=1,v1="),
        (one["payload"], one["signature"].replace("v1=", "v0=")),
        (one["payload"], one["signature"].replace("t=", "t=9")),
        (one["payload"], "t=²,v1=" + "0" * 64),
    ]:
        assert refused(till, payload, header) == "signature_invalid"
    assert till.wallet(owner) == 0
    assert StripeEvent.objects.count() == 0


@pytest.mark.parametrize("age_s", [301, 86400, -301])
def test_stale_webhooks_are_refused(till: Till, age_s: int):
    owner, _ = paid_on_page(till)
    (one,) = only(till, "payment_intent.succeeded")
    assert refused(till, one["payload"], signed(one["payload"], age_s=age_s)) == "signature_stale"
    assert till.wallet(owner) == 0


def test_a_replayed_webhook_changes_nothing_and_is_refused_when_it_is_old(till: Till):
    owner, _ = paid_on_page(till)
    (one,) = only(till, "payment_intent.succeeded")
    assert till.hear(one).state == "applied"
    assert till.hear(one).state == "known"
    till.offset += timedelta(minutes=10)
    assert refused(till, one["payload"], one["signature"]) == "signature_stale"
    assert till.wallet(owner) == 2000


@pytest.mark.parametrize(
    "payload",
    ["", "[]", "{}", '{"id": 1}', '{"id": "evt_1", "type": "x", "data": {"object": 5}, "created": 1}'],
)
def test_what_is_no_event_is_refused(till: Till, payload: str):
    assert refused(till, payload, signed(payload)) == "event_invalid"


def test_every_order_credits_once(till: Till):
    orders = list(
        itertools.permutations(
            ["payment_intent.succeeded", "checkout.session.completed", "payment_method.attached"]
        )
    )
    for order in orders:
        owner, _ = paid_on_page(till)
        found = {json.loads(one["payload"])["type"]: one for one in till.take()}
        for kind in order:
            till.hear(found[kind])
            till.hear(found[kind])
        assert till.wallet(owner) == 2000
        assert card_default(owner_id=owner) is not None


def test_a_refund_that_is_heard_of_first_brings_its_payment_along(till: Till):
    owner, intent = paid_on_page(till)
    till.fake.http.post("/v1/refunds", data={"payment_intent": intent, "amount": "500"})
    for one in only(till, "refund.created", "charge.refunded"):
        assert till.hear(one).owner_ids | {owner} == {owner}
    assert till.wallet(owner) == 1500


@pytest.mark.parametrize("won", [True, False])
def test_a_dispute_is_frozen_and_decided_in_any_order(till: Till, won: bool):
    owner, intent = paid_on_page(till)
    dispute = till.fake.switch("dispute", payment_intent=intent)
    till.fake.switch("dispute_close", dispute=dispute["id"], won=won)
    found = only(till, "charge.dispute.created", "charge.dispute.closed")
    for one in reversed(found):
        till.hear(one)
    assert till.wallet(owner) == (2000 if won else 0)
    assert Dispute.objects.get(id=dispute["id"]).state == ("won" if won else "lost")


def test_an_open_dispute_freezes_its_amount(till: Till):
    owner = till.owner()
    intent = Payment.objects.get(owner_id=owner).intent_id
    till.fake.switch("dispute", payment_intent=intent, amount=700)
    till.deliver()
    assert till.wallet(owner) == 1300
    assert account_sum("disputed") > 0


def test_an_inquiry_freezes_when_it_becomes_a_dispute(till: Till):
    owner = till.owner()
    till.wish(owner, threshold=500)
    intent = Payment.objects.get(owner_id=owner).intent_id
    dispute = till.fake.switch("dispute", payment_intent=intent, inquiry=True)
    till.deliver()
    assert till.wallet(owner) == 2000
    assert AutoTopUp.objects.get(owner_id=owner).paused_reason == ""
    till.fake.switch("dispute_escalate", dispute=dispute["id"])
    till.deliver(copies=2)
    assert till.wallet(owner) == 0
    assert Dispute.objects.get(id=dispute["id"]).state == "open"


@pytest.mark.parametrize("cents", [700, None])
def test_a_contested_card_is_not_charged_again_by_itself(till: Till, cents: int | None):
    owner = till.owner()
    till.wish(owner, threshold=500)
    intent = Payment.objects.get(owner_id=owner).intent_id
    till.fake.switch("dispute", payment_intent=intent, amount=cents)
    till.deliver()
    assert "contested" in AutoTopUp.objects.get(owner_id=owner).paused_reason
    assert till.auto(owner) is None
    assert any(notice.kind == "topup.paused" for notice in notice_list_waiting())


@pytest.mark.parametrize(("cents", "paused"), [(1500, False), (1501, True), (2000, True)])
def test_what_is_given_back_is_not_charged_again_by_itself(till: Till, cents: int, paused: bool):
    owner = till.owner()
    till.wish(owner, threshold=500)
    intent = Payment.objects.get(owner_id=owner).intent_id
    till.fake.http.post("/v1/refunds", data={"payment_intent": intent, "amount": str(cents)})
    till.deliver(copies=2)
    assert till.wallet(owner) == 2000 - cents
    assert bool(AutoTopUp.objects.get(owner_id=owner).paused_reason) == paused
    assert till.auto(owner) is None


def test_another_currency_is_parked_where_the_operator_sees_it(till: Till):
    owner = till.stranger()
    payment = Payment.objects.create(owner_id=owner, purpose="topup", amount_cents=500)
    customer = StripeCustomer.objects.get(owner_id=owner).customer_id
    asked = {
        "amount": "500", "currency": "eur", "customer": customer, "payment_method": "pm_card_visa", "confirm": "true",
        "metadata[kindling_payment]": payment.id, "metadata[kindling_owner]": owner, "metadata[kindling_via]": "card",
    }  # fmt: skip
    assert till.fake.http.post("/v1/payment_intents", data=asked).status_code == 200
    (receipt,) = [till.hear(one) for one in only(till, "payment_intent.succeeded")]
    assert receipt.state == "parked"
    (event,) = StripeEvent.objects.filter(state="parked")
    assert event.reason.startswith("currency_unsupported")
    assert any(notice.kind == "provider.event_parked" for notice in notice_list_waiting())
    assert till.wallet(owner) == 0
    assert event_retry(till.api, event_id=event.id).state == "parked"


def test_a_parked_event_can_be_tried_again(till: Till):
    owner, _ = paid_on_page(till)
    payment = Payment.objects.get(owner_id=owner)
    Payment.objects.filter(id=payment.id).update(owner_id="org_nobody")
    till.deliver()
    assert till.wallet(owner) == 0
    Payment.objects.filter(id=payment.id).update(owner_id=owner)
    event = StripeEvent.objects.get(state="parked", type="payment_intent.succeeded")
    assert event_retry(till.api, event_id=event.id).owner_ids == {owner}
    assert till.wallet(owner) == 2000
    with pytest.raises(BillingError):
        event_retry(till.api, event_id=event.id)


def test_payments_that_were_made_elsewhere_are_left_alone(till: Till):
    asked = {"amount": "500", "currency": "usd", "payment_method": "pm_card_visa", "confirm": "true"}
    till.fake.http.post("/v1/payment_intents", data=asked)
    assert {receipt.state for receipt in till.deliver()} == {"ignored"}
    assert Payment.objects.count() == 0


def test_what_cannot_be_read_now_is_told_again(till: Till):
    owner, _ = paid_on_page(till)
    (one,) = only(till, "payment_intent.succeeded")
    till.fake.switch("faults", outage=True)
    with pytest.raises(ProviderAway):
        till.hear(one)
    assert StripeEvent.objects.count() == 0
    till.fake.calm()
    till.hear(one)
    assert till.wallet(owner) == 2000


def test_a_page_that_closed_ends_its_payment(till: Till):
    owner = till.stranger()
    call = till.checkout(owner)
    till.advance(hours=25)
    till.fake.rows("checkout/sessions")
    till.deliver()
    payment = Payment.objects.get(id=call.subject)
    assert (payment.state, payment.failure_code) == ("failed", "checkout_expired")


def test_a_declined_try_on_the_page_is_not_the_end(till: Till):
    owner = till.stranger()
    call = till.checkout(owner)
    till.pay(call, "4000000000000002")
    till.deliver()
    assert Payment.objects.get(id=call.subject).state == "open"
    till.pay(call)
    till.deliver()
    assert till.wallet(owner) == 2000


def test_a_card_that_is_removed_at_the_provider_is_gone_here(till: Till):
    owner = till.owner()
    till.wish(owner)
    card = card_default(owner_id=owner)
    assert card is not None
    attached = till.take()
    till.fake.http.post(f"/v1/payment_methods/{card.id}/detach")
    # The news of its arrival comes again, after that of its end.
    till.deliver()
    for one in attached:
        till.hear(one)
    assert list(card_list(owner_id=owner)) == []
    assert "removed" in AutoTopUp.objects.get(owner_id=owner).paused_reason


def test_a_deleted_customer_loses_cards_and_keeps_their_money(till: Till):
    owner = till.owner()
    till.wish(owner)
    customer = StripeCustomer.objects.get(owner_id=owner)
    till.fake.http.delete(f"/v1/customers/{customer.customer_id}")
    till.deliver(copies=2)
    customer.refresh_from_db()
    assert (customer.customer_id, customer.generation) == ("", 2)
    assert SavedCard.objects.filter(owner_id=owner, removed_at=None).count() == 0
    assert till.wallet(owner) == 2000
