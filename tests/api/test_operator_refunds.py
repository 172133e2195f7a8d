"""Refunds by the operator's programs: once for a key, through the provider, audited, and never more than was paid."""

import json
import threading
from dataclasses import replace
from typing import Any

import pytest
from django.db import connection

from kindling_billing.models import OutboxCall, Payment
from kindling_billing.selectors import balance_get, drift_list, ledger_sum
from kindling_billing.webhooks.receiving import webhook_receive
from kindling_fake_stripe import SECRET, FakeStripe
from kindling_people import ApiClient, Customer, make_customer, make_operator
from kindling_platform.accounts import paying
from kindling_platform.accounts.provider import provider_get
from kindling_platform.audit.models import AuditEvent
from kindling_platform.keys.services import key_create

ALL = "operator/organisations"
CENT = 10**10
START = 100 * CENT
WISH = {"amount_cents": 500, "reason": "The outage of Monday"}


@pytest.fixture(autouse=True)
def stripe(payments_on: FakeStripe) -> FakeStripe:
    payments_on.webhooks()
    return payments_on


@pytest.fixture
def till(operator: Customer) -> ApiClient:
    return till_of(operator)


def till_of(operator: Customer) -> ApiClient:
    scopes = ["operator", "manage"]
    _, text = key_create(org=operator.org, name="till", scopes=scopes, actor=operator.actor, may_operate=True)
    return ApiClient(HTTP_AUTHORIZATION=f"Bearer {text}")


def paid(customer: Customer, stripe: FakeStripe, cents: int = 2000) -> Payment:
    """A top-up that was paid, its webhooks booked."""
    call = paying.topup_begin(
        org=customer.org, amount_cents=cents, return_url="http://home/{payment}/", actor=customer.actor
    )
    stripe.switch("pay", session=call.result_id)
    deliver(stripe)
    return Payment.objects.get(id=call.subject)


def deliver(stripe: FakeStripe) -> None:
    for one in stripe.webhooks():
        payload = one["payload"].encode()
        webhook_receive(provider_get(), payload=payload, header=one["signature"], secret=SECRET)


def give(till: ApiClient, customer: Customer, payment: Payment, key: str = "a", **changes: Any):
    path = f"{ALL}/{customer.org.id}/refunds"
    body = WISH | {"payment_id": payment.id} | changes
    return till.call("post", path, body, headers={"Idempotency-Key": key})


def refusal(reply) -> tuple[int, str]:
    return reply.status_code, reply.json()["error"]["code"]


def refunds_of(stripe: FakeStripe, payment: Payment) -> list[dict[str, Any]]:
    return stripe.rows("refunds", payment_intent=payment.intent_id)


@pytest.mark.django_db
class TestRefunds:
    def test_a_refund_is_given_once_for_a_key(self, ada: Customer, till: ApiClient, stripe: FakeStripe):
        payment = paid(ada, stripe)
        first, again = give(till, ada, payment), give(till, ada, payment)
        assert (first.status_code, again.status_code) == (201, 200), first.content
        assert again["Idempotent-Replayed"] == "true"
        assert first.json() == again.json()
        assert first.json() | WISH | {"payment_id": payment.id, "state": "done"} == first.json()
        deliver(stripe)
        assert balance_get(owner_id=ada.org.id).picousd == START + 1500 * CENT
        (refund,) = refunds_of(stripe, payment)
        assert (refund["amount"], refund["metadata"]["kindling_reason"]) == (500, WISH["reason"])
        (event,) = AuditEvent.objects.filter(action="refund.given")
        assert (event.actor_label, event.organisation_id) == ("key till", ada.org.id)
        assert event.data | {"payment": payment.id, "cents": "500", "reason": WISH["reason"]} == event.data
        assert (ledger_sum(), drift_list()) == (0, [])

    def test_all_of_a_payment_and_the_same_key_again(
        self, ada: Customer, till: ApiClient, stripe: FakeStripe
    ):
        payment = paid(ada, stripe)
        assert give(till, ada, payment, amount_cents=2000).status_code == 201
        assert give(till, ada, payment, amount_cents=2000).status_code == 200
        assert refusal(give(till, ada, payment, "b", amount_cents=1)) == (400, "refund_too_large")
        (row,) = till.call("get", f"{ALL}/{ada.org.id}/payments").json()["data"]
        assert (row["id"], row["intent_id"]) == (payment.id, payment.intent_id)
        assert (row["amount_cents"], row["refunded_cents"], row["state"]) == (2000, 2000, "succeeded")

    @pytest.mark.parametrize("changes", [{"amount_cents": 501}, {"reason": "Another"}])
    def test_a_key_is_for_one_refund(
        self, ada: Customer, till: ApiClient, stripe: FakeStripe, changes: dict[str, Any]
    ):
        payment = paid(ada, stripe)
        give(till, ada, payment)
        assert refusal(give(till, ada, payment, **changes)) == (400, "idempotency_key_reused")
        assert len(refunds_of(stripe, payment)) == 1

    def test_and_for_one_payment(self, ada: Customer, bob: Customer, till: ApiClient, stripe: FakeStripe):
        first, second, theirs = paid(ada, stripe), paid(ada, stripe), paid(bob, stripe)
        give(till, ada, first)
        assert refusal(give(till, ada, second)) == (400, "idempotency_key_reused")
        assert refusal(give(till, bob, theirs)) == (400, "idempotency_key_reused")
        assert not refunds_of(stripe, second) + refunds_of(stripe, theirs)

    def test_a_payment_is_its_payers(self, ada: Customer, bob: Customer, till: ApiClient, stripe: FakeStripe):
        payment = paid(ada, stripe)
        assert refusal(give(till, bob, payment)) == (400, "payment_unknown")
        assert till.call("get", f"{ALL}/{bob.org.id}/payments").json()["data"] == []

    @pytest.mark.parametrize("key", ["", "x" * 256, "ä"])
    def test_without_a_key_none_is_given(self, ada: Customer, till: ApiClient, stripe: FakeStripe, key: str):
        assert refusal(give(till, ada, paid(ada, stripe), key)) == (400, "idempotency_key_invalid")

    @pytest.mark.parametrize(
        "changes",
        [
            {"amount_cents": 0},
            {"amount_cents": -1},
            {"amount_cents": 10**18},
            {"amount_cents": "much"},
            {"reason": " "},
            {"payment_id": ""},
        ],
    )
    def test_impossible_refunds_are_refused(
        self, ada: Customer, till: ApiClient, stripe: FakeStripe, changes: dict[str, Any]
    ):
        payment = paid(ada, stripe)
        assert refusal(give(till, ada, payment, **changes)) == (422, "validation_failed")
        assert not OutboxCall.objects.filter(kind="refund").exists()

    def test_while_the_provider_is_away_it_is_under_way(
        self, ada: Customer, till: ApiClient, stripe: FakeStripe
    ):
        payment = paid(ada, stripe)
        stripe.switch("faults", outage=True)
        reply = give(till, ada, payment)
        assert (reply.status_code, reply.json()["state"]) == (201, "waiting")
        assert reply.json()["trouble"]
        stripe.calm()
        reply = give(till, ada, payment)
        assert (reply.status_code, reply.json()["state"]) == (200, "done")
        assert len(refunds_of(stripe, payment)) == 1

    def test_a_refusal_of_the_provider_waits_for_a_decision(
        self, ada: Customer, till: ApiClient, stripe: FakeStripe
    ):
        payment = paid(ada, stripe)
        # Given back by hand at the provider, of which no webhook has told us yet.
        stripe.http.post("/v1/refunds", data={"payment_intent": payment.intent_id, "amount": "2000"})
        for _ in range(2):
            reply = give(till, ada, payment)
            assert refusal(reply) == (409, "refund_refused")
        (record,) = till.call("get", "operator/records/requests").json()["data"]
        assert record["organisation_id"] == ada.org.id
        assert record["reason"] in reply.json()["error"]["message"]

    def test_one_that_came_back_is_given_as_credit_once(
        self, ada: Customer, till: ApiClient, stripe: FakeStripe
    ):
        payment = paid(ada, stripe)
        give(till, ada, payment)
        deliver(stripe)
        (refund,) = refunds_of(stripe, payment)
        stripe.switch("refund_fail", refund=refund["id"])
        deliver(stripe)
        (record,) = till.call("get", "operator/records/refunds").json()["data"]
        assert (record["id"], record["organisation_id"]) == (refund["id"], ada.org.id)
        assert record["details"] == {"payment_id": payment.id, "amount_cents": 500}
        path = f"operator/records/refunds/{refund['id']}/credit"
        assert till.call("post", path, {}).status_code == 200
        assert balance_get(owner_id=ada.org.id).picousd == START + 2000 * CENT
        assert refusal(till.call("post", path, {})) == (400, "refund_resolved")
        event = AuditEvent.objects.get(action="refund.credited")
        assert (event.actor_label, event.organisation_id) == ("key till", ada.org.id)
        assert (ledger_sum(), drift_list()) == (0, [])


@pytest.mark.django_db
def test_without_a_provider_nothing_is_given(ada: Customer, till: ApiClient, settings: Any):
    settings.KINDLING_ENV = replace(settings.KINDLING_ENV, stripe_secret_key="off")
    body = json.dumps(WISH | {"payment_id": "pay_1"})
    reply = till.post(
        f"/api/v1/{ALL}/{ada.org.id}/refunds",
        body,
        content_type="application/json",
        headers={"Idempotency-Key": "a"},
    )
    assert refusal(reply) == (409, "payments_off")


@pytest.mark.django_db(transaction=True)
def test_four_who_ask_at_once_with_one_key_refund_once(stripe: FakeStripe):
    till, ada = till_of(make_operator()), make_customer("ada")
    payments = [paid(ada, stripe) for _ in range(2)]
    statuses: list[int] = []
    start = threading.Barrier(4)

    def ask(payment: Payment) -> None:
        start.wait(timeout=60)
        try:
            statuses.append(give(till, ada, payment).status_code)
        finally:
            connection.close()

    threads = [threading.Thread(target=ask, args=[payments[number % 2]]) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert sorted(statuses) == [200, 201, 400, 400]
    assert sum(len(refunds_of(stripe, payment)) for payment in payments) == 1
