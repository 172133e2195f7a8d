"""The outbox: whatever becomes of a request on its way, the card is charged once and the books know."""

import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection

from kindling_billing.charging import auto_topup_start, checkout_start, customer_call, customer_id_get
from kindling_billing.errors import BillingError
from kindling_billing.models import AutoTopUp, OutboxCall, Payment, SavedCard, StripeCustomer
from kindling_billing.outbox.sending import KEY_IS_GOOD, LEASE, call_list_due, call_send
from kindling_billing.refunding import refund_start
from kindling_billing.saved_cards import card_default, card_forget, card_list, card_prefer
from kindling_till import Till, payment_of

pytestmark = pytest.mark.django_db


def charge(till: Till, owner_id: str, **wish: int) -> OutboxCall:
    till.wish(owner_id, **wish)
    call = till.auto(owner_id)
    assert call is not None
    return call


def attempt(till: Till, call: OutboxCall) -> OutboxCall:
    return call_send(till.api, call_id=call.id, now=till.now())


def charges(till: Till, owner_id: str) -> list[dict]:
    customer = StripeCustomer.objects.get(owner_id=owner_id).customer_id
    return [row for row in till.fake.rows("payment_intents", customer=customer) if row["amount"] == 500]


def test_a_page_is_paid_and_its_card_is_kept(till: Till):
    owner = till.stranger()
    call = till.checkout(owner, 2500)
    assert call.result_url.startswith(till.fake.url)
    till.pay(call)
    assert till.wallet(owner) == 0
    till.deliver()
    assert till.wallet(owner) == 2500
    card = card_default(owner_id=owner)
    assert card is not None and (card.brand, card.last4) == ("visa", "4242")
    assert payment_of(call).state == "succeeded"


def test_a_charge_is_credited_by_the_answer_and_by_the_webhook_once(till: Till):
    owner = till.owner()
    call = attempt(till, charge(till, owner))
    assert (call.state, till.wallet(owner)) == ("done", 2500)
    till.deliver(copies=3)
    assert till.wallet(owner) == 2500


def test_a_declined_card_ends_the_attempt_and_pauses_the_wish(till: Till):
    owner = till.owner(card="4000000000000341")
    call = attempt(till, charge(till, owner))
    assert (call.state, call.trouble_code) == ("refused", "card_declined")
    assert payment_of(call).state == "failed"
    assert AutoTopUp.objects.get(owner_id=owner).paused_reason == "Your card was declined."
    assert till.auto(owner) is None
    assert till.wallet(owner) == 2000


def test_a_card_that_needs_its_holder_pauses_the_wish(till: Till):
    owner = till.owner()
    method = card_default(owner_id=owner)
    assert method is not None
    SavedCard.objects.filter(id=method.id).update(id="pm_card_authenticationRequired")
    call = attempt(till, charge(till, owner))
    assert call.trouble_code == "authentication_required"
    assert "authentication" in AutoTopUp.objects.get(owner_id=owner).paused_reason


def test_an_answer_that_was_lost_is_asked_for_again(till: Till):
    owner = till.owner()
    call = charge(till, owner)
    till.fake.switch("faults", timeout_after=1)
    assert attempt(till, call).trouble_code == "no_answer"
    till.fake.calm()
    till.send(2)
    assert len(charges(till, owner)) == 1
    assert till.wallet(owner) == 2500


def test_a_kept_failure_that_had_its_effect_is_found_at_once(till: Till):
    owner = till.owner()
    call = charge(till, owner)
    till.fake.switch("faults", stored_500_after=1)
    assert attempt(till, call).state == "done"
    assert (len(charges(till, owner)), till.wallet(owner)) == (1, 2500)


def test_a_kept_failure_without_effect_is_made_anew_only_after_a_look(till: Till):
    owner = till.owner()
    call = charge(till, owner)
    till.fake.switch("faults", stored_500_before=1)
    first = attempt(till, call)
    till.fake.calm()
    till.advance(hours=1)
    assert attempt(till, call).trouble_code == "failed"
    assert charges(till, owner) == []
    till.advance(hours=KEY_IS_GOOD / timedelta(hours=1))
    again = attempt(till, call)
    assert (first.round, again.round, again.state) == (1, 2, "done")
    assert (len(charges(till, owner)), till.wallet(owner)) == (1, 2500)


def test_a_lost_answer_is_found_when_the_key_is_forgotten(till: Till):
    owner = till.owner()
    call = charge(till, owner)
    till.fake.switch("faults", timeout_after=1)
    attempt(till, call)
    till.fake.calm()
    till.advance(hours=36)
    assert attempt(till, call).round == 1
    assert (len(charges(till, owner)), till.wallet(owner)) == (1, 2500)


def test_a_page_that_failed_is_made_anew_at_once(till: Till):
    owner = till.stranger()
    till.fake.switch("faults", stored_500_before=1)
    call = checkout_start(
        owner_id=owner, amount_cents=500, tax_cents=0, tax_by_provider=False, return_url="http://home/"
    )
    assert attempt(till, call).round == 2
    till.fake.calm()
    assert attempt(till, call).state == "done"


@pytest.mark.parametrize("fault", [{"rate_limited": 1}, {"outage": True}])
def test_what_was_not_taken_waits_longer_each_time(till: Till, fault: dict):
    owner = till.owner()
    call = charge(till, owner)
    till.fake.switch("faults", **fault)
    first, second = attempt(till, call), attempt(till, call)
    assert second.due_at - till.now() > first.due_at - till.now()
    assert call.id not in call_list_due(now=till.now())
    till.fake.calm()
    till.send(2)
    assert till.wallet(owner) == 2500


def test_a_deleted_customer_is_noticed_and_made_anew(till: Till):
    owner = till.owner()
    customer = StripeCustomer.objects.get(owner_id=owner).customer_id
    assert till.fake.http.delete(f"/v1/customers/{customer}").status_code == 200
    call = attempt(till, charge(till, owner))
    assert (call.state, call.trouble_code) == ("refused", "resource_missing")
    assert "deleted" in AutoTopUp.objects.get(owner_id=owner).paused_reason
    assert list(card_list(owner_id=owner)) == []
    made = customer_call(owner_id=owner, email="", name="")
    assert made is not None
    assert attempt(till, made).state == "done"
    till.pay(till.checkout(owner, 700))
    till.deliver()
    assert till.wallet(owner) == 2700


def test_a_refund_goes_back_once(till: Till):
    owner = till.owner()
    (payment,) = Payment.objects.filter(owner_id=owner)
    asked = {"owner_id": owner, "payment_id": payment.id, "amount_cents": 1500, "reference": "form-1"}
    first, again = refund_start(**asked), refund_start(**asked)
    assert (first.is_repeated, again.is_repeated, again.call.id) == (False, True, first.call.id)
    assert refusal(lambda: refund_start(**asked | {"amount_cents": 1000, "reference": "form-2"})) == (
        "refund_too_large"
    )
    till.fake.switch("faults", timeout_after=1)
    attempt(till, first.call)
    till.fake.calm()
    till.advance(hours=30)
    attempt(till, first.call)
    till.deliver(copies=2)
    assert till.wallet(owner) == 500
    assert len(till.fake.rows("refunds", payment_intent=payment.intent_id or paid(owner))) == 1
    # What is given back by now does not stand in the way of asking what became of it.
    assert refund_start(**asked).call.state == "done"


@pytest.mark.parametrize(
    "changes", [{"amount_cents": 400}, {"reason": "Another"}, {"payment_id": "pay_other"}]
)
def test_a_reference_is_for_one_refund(till: Till, changes: dict[str, Any]):
    owner = till.owner()
    (payment,) = Payment.objects.filter(owner_id=owner)
    asked = {
        "owner_id": owner, "payment_id": payment.id, "amount_cents": 500, "reference": "form-1", "reason": "One",
    }  # fmt: skip
    refund_start(**asked)
    assert refusal(lambda: refund_start(**asked | changes)) == "refund_differs"


def refusal(act: Callable[[], object]) -> str:
    with pytest.raises(BillingError) as refused:
        act()
    return refused.value.code


def paid(owner: str) -> str:
    return Payment.objects.get(owner_id=owner, state="succeeded").intent_id


def test_a_card_is_forgotten_and_the_next_one_takes_its_place(till: Till):
    owner = till.owner()
    till.pay(till.checkout(owner), "5555555555554444")
    till.deliver()
    first = card_default(owner_id=owner)
    assert first is not None and first.last4 == "4242"
    other = card_list(owner_id=owner).exclude(id=first.id).get()
    card_prefer(owner_id=owner, card_id=other.id)
    attempt(till, card_forget(owner_id=owner, card_id=other.id))
    assert card_default(owner_id=owner) == first
    with pytest.raises(BillingError):
        card_forget(owner_id="org_other", card_id=first.id)


def test_the_same_card_is_kept_once(till: Till):
    owner = till.owner()
    till.pay(till.checkout(owner))
    till.deliver()
    till.send()
    assert [card.last4 for card in card_list(owner_id=owner)] == ["4242"]
    customer = StripeCustomer.objects.get(owner_id=owner).customer_id
    assert len(till.fake.rows("payment_methods", customer=customer)) == 1
    assert card_default(owner_id=owner) is not None


def test_without_a_card_the_wish_is_paused(till: Till):
    owner = till.stranger()
    till.pay(till.checkout(owner))
    till.wish(owner)
    till.deliver()
    SavedCard.objects.filter(owner_id=owner).update(removed_at=till.now(), is_default=False)
    assert till.auto(owner) is None
    assert "no saved card" in AutoTopUp.objects.get(owner_id=owner).paused_reason


def test_the_monthly_cap_holds(till: Till):
    owner = till.owner()
    till.wish(owner, cap=1200)
    for _ in range(4):
        till.auto(owner)
        till.send()
    assert (len(charges(till, owner)), till.wallet(owner)) == (2, 3000)


@pytest.mark.parametrize("cents", [0, -1, 499, 1_000_001, 10**18])
def test_impossible_top_ups_are_refused(till: Till, cents: int):
    owner = till.stranger()
    with pytest.raises(BillingError) as refused:
        till.checkout(owner, cents)
    assert refused.value.code == "amount_invalid"
    assert not OutboxCall.objects.filter(owner_id=owner, kind="checkout").exists()


def test_top_ups_are_limited_by_the_hour(till: Till):
    owner = till.stranger()
    for _ in range(10):
        till.checkout(owner)
    with pytest.raises(BillingError) as refused:
        till.checkout(owner)
    assert refused.value.code == "topups_too_many"


def test_the_tax_is_charged_on_top_and_booked_apart(till: Till):
    owner = till.stranger()
    till.pay(till.checkout(owner, 2000, tax_cents=400))
    till.deliver()
    payment = Payment.objects.get(owner_id=owner)
    assert (till.wallet(owner), payment.total_cents) == (2000, 2400)


def test_the_provider_may_reckon_the_tax(till: Till):
    owner = till.stranger()
    customer = StripeCustomer.objects.get(owner_id=owner).customer_id
    till.fake.http.post(f"/v1/customers/{customer}", data={"address[country]": "DE"})
    till.pay(till.checkout(owner, 1000, tax_by_provider=True))
    till.deliver()
    payment = Payment.objects.get(owner_id=owner)
    assert (till.wallet(owner), payment.tax_cents) == (1000, 190)


def test_a_request_that_was_tampered_with_is_stuck_and_not_charged_again(till: Till):
    owner = till.owner()
    call = charge(till, owner)
    till.fake.switch("faults", timeout_after=1)
    attempt(till, call)
    till.fake.calm()
    OutboxCall.objects.filter(id=call.id).update(params=call.params | {"amount": 501})
    assert attempt(till, call).state == "stuck"
    assert len(charges(till, owner)) == 1


def test_a_worker_that_died_is_relieved_after_its_lease(till: Till):
    owner = till.owner()
    call = charge(till, owner)
    OutboxCall.objects.filter(id=call.id).update(
        lease_token="dead", lease_expires_at=till.now() + LEASE, attempts=1, first_sent_at=till.now()
    )
    assert attempt(till, call).state == "waiting"
    till.advance(hours=0.1)
    assert attempt(till, call).state == "done"


@pytest.mark.django_db(transaction=True)
def test_two_workers_charge_once(till: Till):
    owner = till.owner()
    till.wish(owner, amount=500, cap=500)
    barrier = threading.Barrier(2)

    def work() -> None:
        try:
            barrier.wait(60)
            auto_topup_start(owner_id=owner, tax_cents=0, now=till.now())
            for call_id in call_list_due(now=till.now()):
                call_send(till.api, call_id=call_id, now=till.now())
        finally:
            connection.close()

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    till.send()
    assert (len(charges(till, owner)), till.wallet(owner)) == (1, 2500)


def test_a_customer_that_was_refused_is_asked_for_again_without_the_address(till: Till):
    asked = {"owner_id": "org_refused", "email": "ada@nowhere", "name": "Ada"}
    first = customer_call(**asked)
    assert first is not None and customer_call(**asked) == first
    OutboxCall.objects.filter(id=first.id).update(state=OutboxCall.State.REFUSED)
    again = customer_call(**asked)
    assert again is not None and again.id != first.id
    assert (first.params["email"], again.params["email"]) == ("ada@nowhere", "")
    assert customer_call(**asked) == again
    call_send(till.api, call_id=again.id, now=till.now())
    assert customer_id_get(owner_id="org_refused") and customer_call(**asked) is None
