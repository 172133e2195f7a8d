"""Payments, cards and automatic top-up over the API."""

import pytest
from django.test import Client

from kindling_billing.models import StripeCustomer
from kindling_billing.saved_cards import card_list
from kindling_fake_stripe import FakeStripe
from kindling_people import Customer

pytestmark = pytest.mark.django_db
WISH = {"threshold_cents": 500, "amount_cents": 2000, "monthly_cap_cents": 10_000}


def paid(ada: Customer, fake: FakeStripe) -> dict:
    fake.webhooks()
    reply = ada.client().call("POST", "payments", {"amount_cents": 2000})
    assert reply.status_code == 201
    made = reply.json()
    fake.switch("pay", session=made["url"].rsplit("/", 1)[1])
    for one in fake.webhooks():
        headers = {"HTTP_STRIPE_SIGNATURE": one["signature"]}
        Client().post("/stripe/webhook", one["payload"], content_type="application/json", **headers)
    return made


def test_a_top_up_is_begun_paid_and_listed(ada: Customer, payments_on: FakeStripe):
    made = paid(ada, payments_on)
    one = ada.client().call("GET", f"payments/{made['id']}").json()
    assert (one["state"], one["amount_cents"], one["url"]) == ("succeeded", 2000, "")
    assert [row["id"] for row in ada.client().call("GET", "payments").json()["data"]] == [made["id"]]
    assert ada.client().call("GET", "balance").json()["balance_usd"] == "21.00"


def test_one_that_is_asked_for_again_is_begun_once(ada: Customer, payments_on: FakeStripe):
    client, again = ada.client(), {"Idempotency-Key": "june"}
    made = [client.call("POST", "payments", {"amount_cents": 2000}, headers=again) for _ in range(2)]
    assert [reply.status_code for reply in made] == [201, 201]
    assert made[0].json() == made[1].json() and made[0].json()["url"]
    assert ["Idempotent-Replayed" in reply.headers for reply in made] == [False, True]
    assert len(client.call("GET", "payments").json()["data"]) == 1
    other = client.call("POST", "payments", {"amount_cents": 3000}, headers=again)
    assert (other.status_code, other.json()["error"]["code"]) == (400, "idempotency_key_reused")


def test_one_that_was_refused_begins_anew_under_its_key(ada: Customer, payments_on: FakeStripe):
    client, again = ada.client(), {"Idempotency-Key": "july"}
    assert client.call("POST", "payments", {"amount_cents": 2000}).status_code == 201
    customer = StripeCustomer.objects.get().customer_id
    assert payments_on.http.delete(f"/v1/customers/{customer}").status_code == 200
    refused = client.call("POST", "payments", {"amount_cents": 2000}, headers=again)
    assert (refused.status_code, refused.json()["error"]["code"]) == (502, "payment_provider_refused")
    made = client.call("POST", "payments", {"amount_cents": 2000}, headers=again)
    assert (made.status_code, made.json()["state"]) == (201, "open") and made.json()["url"]
    assert "Idempotent-Replayed" not in made.headers
    found = client.call("POST", "payments", {"amount_cents": 2000}, headers=again)
    assert found.json() == made.json() and "Idempotent-Replayed" in found.headers


@pytest.mark.parametrize("cents", [0, -1, 10**18, "x", None, 1.5])
def test_impossible_amounts_are_refused(ada: Customer, payments_on: FakeStripe, cents):
    reply = ada.client().call("POST", "payments", {"amount_cents": cents})
    assert reply.status_code == 422
    assert (
        ada.client().call("POST", "payments", {"amount_cents": 499}).json()["error"]["code"]
        == "amount_invalid"
    )


def test_automatic_top_up_is_set_and_ended(ada: Customer, payments_on: FakeStripe):
    client = ada.client()
    assert client.call("GET", "auto-topup").json()["enabled"] is False
    assert client.call("PUT", "auto-topup", WISH).json()["error"]["code"] == "card_missing"
    paid(ada, payments_on)
    assert client.call("PUT", "auto-topup", WISH).json() == {"enabled": True, "paused_reason": "", **WISH}
    assert client.call("DELETE", "auto-topup").status_code == 204
    assert client.call("GET", "auto-topup").json()["enabled"] is False


def test_cards_are_listed_and_removed_by_their_owner(ada: Customer, bob: Customer, payments_on: FakeStripe):
    paid(ada, payments_on)
    (card,) = ada.client().call("GET", "cards").json()["data"]
    assert (card["brand"], card["last4"], card["is_default"]) == ("visa", "4242", True)
    assert bob.client().call("DELETE", f"cards/{card['id']}").status_code == 404
    assert ada.client().call("DELETE", f"cards/{card['id']}").status_code == 204
    assert not card_list(owner_id=ada.org.id)


def test_a_key_that_may_only_read_begins_nothing(ada: Customer, payments_on: FakeStripe):
    client = ada.client("read")
    assert client.call("GET", "payments").status_code == 200
    assert client.call("POST", "payments", {"amount_cents": 2000}).status_code == 403
    assert client.call("GET", "invoices").json() == {"data": [], "next_cursor": None}


def test_without_payments_it_is_said(ada: Customer):
    reply = ada.client().call("POST", "payments", {"amount_cents": 2000})
    assert (reply.status_code, reply.json()["error"]["code"]) == (409, "payments_off")
