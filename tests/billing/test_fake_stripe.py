"""The stand-in for Stripe, asked by Stripe's own client: what a client may rely on holds here too."""

import json
import stat
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import stripe

from kindling_billing.fake_stripe.store import Store
from kindling_fake_stripe import KEY, FakeStripe, started_fake_stripe


@pytest.fixture(scope="module")
def fake(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeStripe]:
    with started_fake_stripe(tmp_path_factory.mktemp("stripe")) as running:
        yield running


@pytest.fixture
def v1(fake: FakeStripe) -> Iterator["stripe._v1_services.V1Services"]:
    fake.calm()
    client = stripe.StripeClient(KEY, base_addresses={"api": fake.url}, max_network_retries=0)
    yield client.v1
    fake.calm()


@pytest.fixture
def customer(v1) -> str:
    return v1.customers.create({"email": "ada@example.com"}).id


def test_what_it_keeps_is_its_owners_alone(tmp_path: Path):
    kept = tmp_path / "stripe.sqlite3"
    kept.touch(mode=0o644)
    store = Store(kept)
    files = sorted(tmp_path.iterdir())
    assert kept in files and len(files) > 1
    assert {stat.S_IMODE(one.stat().st_mode) for one in files} == {0o600}
    store.close()


def charge(v1, customer: str, method: str = "pm_card_visa", cents: int = 500, key: str = "", **more):
    asked = {
        "amount": cents, "currency": "usd", "customer": customer, "payment_method": method, "confirm": True,
        "off_session": True, **more,
    }  # fmt: skip
    return v1.payment_intents.create(asked, {"idempotency_key": key} if key else None)


def checkout(v1, customer: str, cents: int = 2000, **more):
    line = {
        "price_data": {"currency": "usd", "unit_amount": cents, "product_data": {"name": "Credit"}},
        "quantity": 1,
    }
    asked = {
        "mode": "payment", "customer": customer, "line_items": [line], "success_url": "http://home/{CHECKOUT_SESSION_ID}",
        "payment_intent_data": {"setup_future_usage": "off_session", "metadata": {"told": "yes"}}, **more,
    }  # fmt: skip
    return v1.checkout.sessions.create(asked)


def test_a_key_is_needed(fake: FakeStripe):
    client = stripe.StripeClient("sk_test_wrong", base_addresses={"api": fake.url}, max_network_retries=0)
    with pytest.raises(stripe.AuthenticationError):
        client.v1.balance.retrieve()
    assert httpx.post(f"{fake.url}/_test/clock", json={"advance_s": 1}, timeout=60).status_code == 401


def test_the_same_key_repeats_the_answer(v1, customer: str):
    first = charge(v1, customer, key="repeat")
    second = charge(v1, customer, key="repeat")
    assert first.id == second.id
    assert second.last_response.headers["Idempotent-Replayed"] == "true"
    assert len(v1.payment_intents.list({"customer": customer}).data) == 1


def test_a_key_with_other_parameters_is_refused(v1, customer: str):
    charge(v1, customer, key="mismatch")
    with pytest.raises(stripe.IdempotencyError):
        charge(v1, customer, key="mismatch", cents=501)


def test_a_declined_charge_is_kept_under_its_key(v1, customer: str):
    for _ in range(2):
        with pytest.raises(stripe.CardError) as declined:
            charge(v1, customer, "pm_card_chargeDeclined", key="declined")
    assert declined.value.code == "card_declined"
    (intent,) = v1.payment_intents.list({"customer": customer}).data
    assert intent.status == "requires_payment_method"
    assert intent.last_payment_error.code == "card_declined"


def test_what_was_refused_before_it_began_is_not_kept(v1, customer: str):
    with pytest.raises(stripe.InvalidRequestError):
        charge(v1, customer, key="small", cents=49)
    assert charge(v1, customer, key="small", cents=50).status == "succeeded"


@pytest.mark.parametrize(("fault", "made"), [("stored_500_after", 1), ("stored_500_before", 0)])
def test_a_failure_is_kept_and_repeated_for_a_day(fake: FakeStripe, v1, customer: str, fault: str, made: int):
    fake.switch("faults", **{fault: 1})
    for _ in range(2):
        with pytest.raises(stripe.APIError) as failed:
            charge(v1, customer, key=fault)
        assert failed.value.http_status == 500
        fake.calm()
    assert len(v1.payment_intents.list({"customer": customer}).data) == made
    fake.advance(hours=25)
    assert charge(v1, customer, key=fault).status == "succeeded"


def test_an_answer_that_is_lost_had_its_effect(fake: FakeStripe, v1, customer: str):
    fake.switch("faults", timeout_after=1)
    with pytest.raises(stripe.APIConnectionError):
        charge(v1, customer, key="lost")
    fake.calm()
    (made,) = v1.payment_intents.list({"customer": customer}).data
    assert charge(v1, customer, key="lost").id == made.id


def test_a_rate_limit_has_no_effect(fake: FakeStripe, v1, customer: str):
    fake.switch("faults", rate_limited=1)
    with pytest.raises(stripe.RateLimitError):
        charge(v1, customer, key="limited")
    fake.calm()
    assert v1.payment_intents.list({"customer": customer}).data == []


@pytest.mark.parametrize("amount", [0, -1, 49, 10**18, "1.5", ""])
def test_impossible_amounts_are_refused(v1, customer: str, amount):
    with pytest.raises(stripe.InvalidRequestError):
        charge(v1, customer, cents=amount)


def test_unknown_parameters_are_refused(v1, customer: str):
    with pytest.raises(stripe.InvalidRequestError, match="unknown parameter"):
        charge(v1, customer, colour="red")


def test_a_card_that_asks_is_declined_while_nobody_is_there(v1, customer: str):
    with pytest.raises(stripe.CardError) as declined:
        charge(v1, customer, "pm_card_authenticationRequired")
    assert declined.value.code == "authentication_required"


def test_a_page_is_paid_once_and_keeps_the_card(fake: FakeStripe, v1, customer: str):
    session = checkout(v1, customer)
    page = httpx.get(session.url, timeout=60).text
    assert "$20.00" in page and "Test mode" in page
    paid = httpx.post(session.url, data={"number": "4242 4242 4242 4242", "expires": "12/34"}, timeout=60)
    assert (paid.status_code, paid.headers["location"]) == (303, f"http://home/{session.id}")
    again = httpx.post(session.url, data={"number": "4242424242424242"}, timeout=60)
    assert again.status_code == 400 and "complete" in again.text
    session = v1.checkout.sessions.retrieve(session.id)
    intent = v1.payment_intents.retrieve(session.payment_intent)
    assert (session.payment_status, intent.amount_received, intent.metadata["told"]) == ("paid", 2000, "yes")
    (method,) = v1.payment_methods.list({"customer": customer}).data
    assert method.card.last4 == "4242"
    assert "x_number" not in json.dumps(method.to_dict())
    assert charge(v1, customer, method.id).status == "succeeded"


def test_a_page_can_be_tried_with_another_card(v1, customer: str):
    session = checkout(v1, customer)
    declined = httpx.post(session.url, data={"number": "4000 0000 0000 0002"}, timeout=60)
    assert declined.status_code == 402 and "declined" in declined.text
    asked = httpx.post(session.url, data={"number": "4000 0027 6000 3184"}, timeout=60)
    assert asked.status_code == 200 and "confirm" in asked.text
    done = httpx.post(session.url, data={"number": "4000 0027 6000 3184", "confirmed": "1"}, timeout=60)
    assert done.status_code == 303
    assert len(v1.payment_intents.list({"customer": customer}).data) == 1


def test_a_page_closes_after_a_day(fake: FakeStripe, v1, customer: str):
    session = checkout(v1, customer)
    fake.advance(hours=24)
    assert httpx.post(session.url, data={"number": "4242424242424242"}, timeout=60).status_code == 400
    assert v1.checkout.sessions.retrieve(session.id).status == "expired"


def test_tax_is_put_on_by_country(v1, customer: str):
    v1.customers.update(customer, {"address": {"country": "GB"}})
    session = checkout(v1, customer, automatic_tax={"enabled": True})
    assert (session.amount_total, session.total_details.amount_tax) == (2400, 400)
    asked = {"customer": customer, "currency": "usd", "line_items": [{"amount": 2000, "reference": "credit"}]}
    assert v1.tax.calculations.create(asked).tax_amount_exclusive == 400


def test_refunds_disputes_and_payouts_move_the_balance(fake: FakeStripe, v1, customer: str):
    def held() -> int:
        return sum(row.amount for row in v1.balance.retrieve().available)

    before = held()
    intent = charge(v1, customer, cents=10_000)
    assert held() == before + 10_000 - 320
    v1.refunds.create({"payment_intent": intent.id, "amount": 4000})
    with pytest.raises(stripe.InvalidRequestError):
        v1.refunds.create({"payment_intent": intent.id, "amount": 6001})
    dispute = fake.switch("dispute", payment_intent=intent.id)
    assert dispute["amount"] == 6000
    assert held() == before - 320 - 1500
    fake.switch("dispute_close", dispute=dispute["id"], won=True)
    assert v1.disputes.retrieve(dispute["id"]).status == "won"
    assert held() == before + 6000 - 320 - 1500
    v1.payouts.create({"amount": 100, "currency": "usd"})
    assert held() == before + 6000 - 320 - 1500 - 100


def test_a_deleted_customer_cannot_be_charged(v1, customer: str):
    method = charge(v1, customer, setup_future_usage="off_session").payment_method
    assert v1.customers.delete(customer).deleted
    assert v1.customers.retrieve(customer).deleted
    with pytest.raises(stripe.InvalidRequestError) as refused:
        charge(v1, customer, method)
    assert (refused.value.code, refused.value.param) == ("resource_missing", "customer")


def test_the_portal_removes_a_card(v1, customer: str):
    charge(v1, customer, setup_future_usage="off_session")
    portal = v1.billing_portal.sessions.create({"customer": customer, "return_url": "http://home/"})
    (method,) = v1.payment_methods.list({"customer": customer}).data
    assert "4242" in httpx.get(portal.url, timeout=60).text
    assert httpx.post(portal.url, data={"remove": method.id}, timeout=60).status_code == 303
    assert v1.payment_methods.list({"customer": customer}).data == []
    with pytest.raises(stripe.InvalidRequestError):
        charge(v1, customer, method.id)


def test_webhooks_are_signed_as_stripe_signs_them(fake: FakeStripe, v1, customer: str):
    fake.webhooks()
    charge(v1, customer)
    sent = fake.webhooks()
    at = int(sent[0]["signature"].split(",")[0].removeprefix("t="))
    for one in sent:
        # The stand-in's clock may have been moved; the client compares with the machine's.
        assert stripe.WebhookSignature.verify_header(
            one["payload"], one["signature"], "whsec_of_the_tests", tolerance=None
        )
    assert at > 0
    assert {json.loads(one["payload"])["type"] for one in sent} >= {
        "payment_intent.succeeded",
        "charge.succeeded",
    }


def test_events_are_listed_by_type_and_page(v1, customer: str):
    for _ in range(3):
        charge(v1, customer)
    wanted = {"types": ["payment_intent.succeeded"], "limit": 2}
    found = [event.type for event in v1.events.list(wanted).auto_paging_iter()]
    assert len(found) >= 3
    assert set(found) == {"payment_intent.succeeded"}


def test_a_process_that_is_killed_forgets_nothing(tmp_path):
    with started_fake_stripe(tmp_path) as first:
        client = stripe.StripeClient(KEY, base_addresses={"api": first.url}, max_network_retries=0)
        made = client.v1.customers.create({"email": "a@b.c"}, {"idempotency_key": "once"})
        first.advance(hours=5)
        first.kill()
    with started_fake_stripe(tmp_path) as second:
        client = stripe.StripeClient(KEY, base_addresses={"api": second.url}, max_network_retries=0)
        assert client.v1.customers.create({"email": "a@b.c"}, {"idempotency_key": "once"}).id == made.id
        assert client.v1.customers.create({"email": "a@b.c"}).created >= made.created + 5 * 3600
