"""Paying in the console: to the provider's page and back, cards, automatic top-up, refunds, the operator's view."""

import pytest
from django.test import Client

from kindling_billing.payment_selectors import auto_topup_get, payment_list
from kindling_billing.saved_cards import card_list
from kindling_billing.selectors import balance_get
from kindling_console_world import Member, World
from kindling_fake_stripe import FakeStripe
from kindling_platform.audit.models import AuditEvent

BILLING = "/console/billing/"
CENT = 10**10


@pytest.fixture(autouse=True)
def stripe(payments_on: FakeStripe) -> FakeStripe:
    payments_on.webhooks()
    return payments_on


def deliver(stripe: FakeStripe) -> None:
    for one in stripe.webhooks():
        headers = {"HTTP_STRIPE_SIGNATURE": one["signature"]}
        assert (
            Client()
            .post("/stripe/webhook", one["payload"], content_type="application/json", **headers)
            .status_code
            == 200
        )


def begin(member: Member, amount: str = "20") -> str:
    """The address of the page that waits for the payment."""
    reply = member.client.post(f"{BILLING}add/", {"amount": amount})
    assert reply.status_code == 303
    return reply["Location"].split("?")[0]


def pay(member: Member, stripe: FakeStripe, amount: str = "20") -> str:
    url = begin(member, amount)
    live = member.client.get(f"{url}live/?go=1", headers={"HX-Request": "true"})
    assert live.status_code == 204
    session = live["HX-Redirect"].rsplit("/", 1)[1]
    stripe.switch("pay", session=session)
    deliver(stripe)
    return url


def test_a_payment_leads_away_and_comes_back(member: Member, stripe: FakeStripe):
    url = begin(member)
    assert "Ready to pay" in member.client.get(f"{url}?go=1").content.decode()
    assert "Waiting for the confirmation" in member.client.get(url).content.decode()
    assert "You left the payment page" in member.client.get(f"{url}?cancelled=1").content.decode()
    url = pay(member, stripe, "12.50")
    html = member.client.get(url).content.decode()
    assert "$12.50 of credit added" in html
    assert "hx-get" not in html.split('id="payment"')[1].split("</section>")[0]
    assert balance_get(owner_id=member.org.id).picousd == 1350 * CENT


def test_the_card_is_kept_and_can_be_removed(member: Member, stripe: FakeStripe):
    pay(member, stripe)
    (card,) = card_list(owner_id=member.org.id)
    assert "Visa ending in 4242" in member.client.get(BILLING).content.decode()
    assert member.client.post(f"{BILLING}cards/{card.id}/prefer/").status_code == 303
    assert member.client.post(f"{BILLING}cards/{card.id}/remove/").status_code == 303
    assert not card_list(owner_id=member.org.id)
    assert member.client.post(f"{BILLING}cards/{card.id}/remove/").status_code == 404


def test_automatic_top_up_is_one_click_off(member: Member, stripe: FakeStripe):
    fields = {"threshold": "5", "amount": "20", "monthly_cap": "100"}
    refused = member.client.post(f"{BILLING}auto/", fields)
    assert refused.status_code == 422 and "Add credit once with a card" in refused.content.decode()
    pay(member, stripe)
    assert member.client.post(f"{BILLING}auto/", fields | {"monthly_cap": "10"}).status_code == 422
    assert member.client.post(f"{BILLING}auto/", fields).status_code == 303
    html = member.client.get(BILLING).content.decode()
    assert "$0.00 of $100.00 this month" in html and "Switch off" in html
    assert member.client.post(f"{BILLING}auto/off/").status_code == 303
    wish = auto_topup_get(owner_id=member.org.id)
    assert wish is not None and not wish.enabled


def test_the_portal_is_reached_by_a_link(member: Member, stripe: FakeStripe):
    reply = member.client.get(f"{BILLING}portal/")
    assert reply.status_code == 302
    assert reply["Location"].startswith(f"{stripe.url}/portal/")


def test_a_provider_that_is_away_is_said_on_the_page(member: Member, stripe: FakeStripe):
    stripe.switch("faults", outage=True)
    reply = member.client.post(f"{BILLING}add/", {"amount": "20"})
    assert reply.status_code == 422
    assert "does not answer. Nothing was charged" in reply.content.decode()


def test_the_operator_refunds_once_per_form(world: World, member: Member, stripe: FakeStripe):
    pay(member, stripe)
    (payment,) = payment_list(owner_id=member.org.id)
    url = f"/console/operator/organisations/{member.org.id}/"
    assert "Give back" in world.operator.client.get(url).content.decode()
    form = {"payment": payment.id, "amount": "5", "reason": "An outage", "reference": f"rfd_{'0' * 26}"}
    for _ in range(2):
        assert world.operator.client.post(f"{url}refund/", form).status_code == 303
    deliver(stripe)
    assert balance_get(owner_id=member.org.id).picousd == 1600 * CENT
    (event,) = AuditEvent.objects.filter(action="refund.given")
    assert (event.data["cents"], event.data["reason"]) == ("500", "An outage")
    assert member.client.post(f"{url}refund/", form).status_code == 403
    unreasoned = world.operator.client.post(f"{url}refund/", form | {"reason": " "}, follow=True)
    assert "and a reason" in unreasoned.content.decode()
    form |= {"amount": "16", "reference": f"rfd_{'1' * 26}"}
    too_much = world.operator.client.post(f"{url}refund/", form, follow=True)
    assert "More would be given back than was paid." in too_much.content.decode()


def test_the_operator_reconciles_and_sees_what_is_parked(world: World, member: Member, stripe: FakeStripe):
    pay(member, stripe)
    url = "/console/operator/payments/"
    assert "Not compared yet" in world.operator.client.get(url).content.decode()
    asked = {"amount": "500", "currency": "usd", "payment_method": "pm_card_visa", "confirm": "true"}
    stripe.http.post("/v1/payment_intents", data=asked)
    html = world.operator.client.post(url, follow=True).content.decode()
    assert "was made at Stripe and not here" in html
    assert "Unmatched money, which must be zero" in html
