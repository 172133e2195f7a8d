"""What organisations do about their money: through the provider, audited, and never for somebody else."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from allauth.account.models import EmailAddress, EmailConfirmationHMAC
from django.core import mail
from django.test import Client

import kindling_billing
from kindling_billing.fake_stripe.deliveries import signature
from kindling_billing.models import AutoTopUp, OutboxCall, Payment, StripeEvent
from kindling_billing.notices import notice_add
from kindling_billing.saved_cards import card_list
from kindling_billing.selectors import balance_get
from kindling_fake_stripe import SECRET, FakeStripe
from kindling_people import Customer, make_customer
from kindling_platform.accounts import letters, paying, treasury
from kindling_platform.accounts.credit import signup_credit_claims
from kindling_platform.accounts.provider import is_stand_in, is_test_mode
from kindling_platform.audit.models import AuditEvent
from kindling_platform.audit.selectors import event_list
from kindling_platform.common.errors import KindlingError
from kindling_platform.deployments.credit import running_hour_picousd

pytestmark = pytest.mark.django_db
CENT = 10**10
URL = "/stripe/webhook"


def begin(ada: Customer, cents: int = 2000) -> OutboxCall:
    return paying.topup_begin(
        org=ada.org, amount_cents=cents, return_url="http://home/{payment}/", actor=ada.actor
    )


def deliver(fake: FakeStripe) -> list[int]:
    """Post what waits to the address that the provider posts to."""
    statuses = []
    for one in fake.webhooks():
        reply = Client().post(
            URL, one["payload"], content_type="application/json", HTTP_STRIPE_SIGNATURE=one["signature"]
        )
        statuses.append(reply.status_code)
    return statuses


def paid(ada: Customer, fake: FakeStripe, cents: int = 2000) -> Payment:
    fake.webhooks()
    call = begin(ada, cents)
    fake.switch("pay", session=call.result_id)
    assert set(deliver(fake)) == {200}
    return Payment.objects.get(id=call.subject)


def wallet(ada: Customer) -> int:
    return balance_get(owner_id=ada.org.id).picousd // CENT - 100


def code_of(call) -> str:
    with pytest.raises(KindlingError) as refused:
        call()
    return refused.value.code


def test_credit_is_bought_on_a_page_and_comes_by_webhook(ada: Customer, payments_on: FakeStripe):
    assert is_stand_in() and is_test_mode()
    payment = paid(ada, payments_on)
    assert (payment.state, wallet(ada)) == ("succeeded", 2000)
    assert [card.last4 for card in card_list(owner_id=ada.org.id)] == ["4242"]
    assert "topup.begun" in {event.action for event in event_list(org=ada.org)}


def test_without_a_provider_nothing_can_be_bought(ada: Customer):
    assert code_of(lambda: begin(ada)) == "payments_off"
    assert Client().post(URL, "{}", content_type="application/json").status_code == 503


def test_a_provider_that_is_away_is_said(ada: Customer, payments_on: FakeStripe):
    payments_on.switch("faults", outage=True)
    assert code_of(lambda: begin(ada)) == "payment_provider_away"
    assert not Payment.objects.exists()


def test_a_page_that_failed_is_made_later(ada: Customer, payments_on: FakeStripe):
    paid(ada, payments_on)
    payments_on.switch("faults", rate_limited=1)
    call = begin(ada)
    assert (call.state, call.result_url) == ("waiting", "")


@pytest.mark.parametrize("cents", [0, -1, 10**18])
def test_impossible_amounts_reach_nobody(ada: Customer, payments_on: FakeStripe, cents: int):
    assert code_of(lambda: begin(ada, cents)) == "amount_invalid"
    assert not OutboxCall.objects.exists()


def test_forged_webhooks_are_refused(ada: Customer, payments_on: FakeStripe):
    payload = json.dumps({"id": "evt_1", "type": "x", "created": 1, "data": {"object": {"object": "y"}}})
    for header in ("", "t=1,v1=00", signature(payload, secret=SECRET, at=1)):
        reply = Client().post(URL, payload, content_type="application/json", HTTP_STRIPE_SIGNATURE=header)
        assert reply.status_code == 400
        assert reply.json()["error"]["code"] in {"signature_invalid", "signature_stale"}
    assert Client().get(URL).status_code == 405
    assert not StripeEvent.objects.exists()


def test_topping_up_by_itself_needs_a_card_and_is_switched_off_at_once(
    ada: Customer, payments_on: FakeStripe
):
    fields = {"threshold_cents": 500, "amount_cents": 1000, "monthly_cap_cents": 5000}

    def wish(**changes) -> AutoTopUp:
        return paying.auto_topup_change(org=ada.org, enabled=True, actor=ada.actor, **fields | changes)

    assert code_of(wish) == "card_missing"
    paid(ada, payments_on)
    assert wish().enabled
    assert code_of(lambda: wish(monthly_cap_cents=999)) == "cap_invalid"
    assert code_of(lambda: wish(amount_cents=499)) == "amount_invalid"
    assert paying.auto_topup_off(org=ada.org, actor=ada.actor)
    assert not paying.auto_topup_off(org=ada.org, actor=ada.actor)
    assert not AutoTopUp.objects.get(owner_id=ada.org.id).enabled


def test_cards_are_ones_own(ada: Customer, bob: Customer, payments_on: FakeStripe):
    paid(ada, payments_on)
    (card,) = card_list(owner_id=ada.org.id)
    for act in (paying.card_remove, paying.card_choose):
        assert code_of(lambda act=act: act(org=bob.org, card_id=card.id, actor=bob.actor)) == "card_unknown"
    paying.card_remove(org=ada.org, card_id=card.id, actor=ada.actor)
    assert not card_list(owner_id=ada.org.id)


def test_the_portal_is_the_customers_own(ada: Customer, payments_on: FakeStripe):
    url = paying.portal_begin(org=ada.org, return_url="http://home/", actor=ada.actor)
    assert url.startswith(f"{payments_on.url}/portal/")


def test_the_operator_gives_money_back_once(ada: Customer, operator: Customer, payments_on: FakeStripe):
    payment = paid(ada, payments_on)
    given = {
        "payment_id": payment.id, "amount_cents": 500, "reference": "form-1", "reason": "An outage",
        "actor": operator.actor,
    }  # fmt: skip
    for _ in range(2):
        assert treasury.refund_give(org=ada.org, **given).call.state == "done"
    deliver(payments_on)
    assert wallet(ada) == 1500
    (refund,) = payments_on.rows("refunds", payment_intent=payment.intent_id)
    assert refund["metadata"]["kindling_reason"] == "An outage"
    assert AuditEvent.objects.filter(action="refund.given").count() == 1
    for changes, code in [
        ({"org": operator.org, "reference": "f"}, "payment_unknown"),
        ({"amount_cents": 501}, "refund_differs"),
        ({"amount_cents": 1501, "reference": "f"}, "refund_too_large"),
        ({"reason": " "}, "reason_missing"),
    ]:
        assert (
            code_of(lambda changes=changes: treasury.refund_give(**{"org": ada.org} | given | changes))
            == code
        )


def test_starting_credit_waits_for_a_confirmed_address(ada: Customer, settings):
    settings.KINDLING_ENV = replace(settings.KINDLING_ENV, signup_credit_needs="mail")
    late = make_customer("late")
    assert balance_get(owner_id=late.org.id).picousd == 0
    assert signup_credit_claims() == 0
    EmailAddress.objects.create(user=late.user, email=late.user.email, verified=True, primary=True)
    assert signup_credit_claims() == 1
    assert signup_credit_claims() == 0
    assert balance_get(owner_id=late.org.id).picousd == 10**12


def test_starting_credit_is_there_when_the_link_has_been_followed(settings):
    settings.KINDLING_ENV = replace(settings.KINDLING_ENV, signup_credit_needs="mail")
    late = make_customer("late")
    address = EmailAddress.objects.create(user=late.user, email=late.user.email, primary=True)
    browser = Client()
    page = f"/accounts/confirm-email/{EmailConfirmationHMAC(address).key}/"
    assert browser.get(page).status_code == 200
    assert balance_get(owner_id=late.org.id).picousd == 0
    assert browser.post(page).status_code == 302
    assert balance_get(owner_id=late.org.id).picousd == 10**12
    assert signup_credit_claims() == 0


@pytest.mark.parametrize("needs", ["mail", "card"])
def test_those_who_never_show_it_hold_up_nobodys_starting_credit(
    ada: Customer, payments_on: FakeStripe, settings, needs: str
):
    settings.KINDLING_ENV = replace(settings.KINDLING_ENV, signup_credit_needs=needs)
    shown = make_customer("shown")
    for number in range(3):
        make_customer(f"silent{number}")
    if needs == "mail":
        EmailAddress.objects.create(user=shown.user, email=shown.user.email, verified=True, primary=True)
    else:
        paid(shown, payments_on)
    assert signup_credit_claims(limit=1) == 1


def test_starting_credit_comes_once_per_card(ada: Customer, payments_on: FakeStripe, settings):
    settings.KINDLING_ENV = replace(settings.KINDLING_ENV, signup_credit_needs="card")
    first, second = make_customer("first"), make_customer("second")
    paid(first, payments_on)
    assert signup_credit_claims() == 1
    paid(second, payments_on)
    assert signup_credit_claims() == 0
    assert balance_get(owner_id=second.org.id).picousd == 2000 * CENT


KINDS = {
    "balance.low": {"balance_picousd": "500000000000", "threshold_picousd": "1"},
    "topup.paused": {"reason": "Your card was declined."},
    "invoice.issued": {"invoice": "inv_1", "number": "2026-000001"},
    "invoice.due": {"invoice": "inv_1", "number": "2026-000001", "open_cents": 1200},
    "invoice.last_call": {"invoice": "inv_1", "number": "2026-000001", "open_cents": 1200},
    "owner.suspended": {"reason": "Unpaid."},
    "owner.resumed": {},
}


@pytest.mark.parametrize("kind", KINDS)
def test_letters_reach_those_who_look_after_bills(ada: Customer, bob: Customer, kind: str):
    notice_add(kind=kind, key="k", owner_id=ada.org.id, data=KINDS[kind])
    assert letters.letters_send(hour_cost=running_hour_picousd) == 1
    assert letters.letters_send(hour_cost=running_hour_picousd) == 0
    (letter,) = mail.outbox
    assert letter.to == [ada.user.email]
    assert ada.org.name in letter.subject


def test_letters_about_the_books_reach_the_operator(ada: Customer, operator: Customer):
    notice_add(kind="provider.books_differ", key="k", data={"finding": "Clearing stands at 5 cents."})
    letters.letters_send(hour_cost=running_hour_picousd)
    (letter,) = mail.outbox
    assert letter.to == [operator.user.email]
    assert "Clearing stands" in letter.body


def test_every_notice_has_a_letter():
    source = Path(str(kindling_billing.__path__[0]))
    kinds = set()
    for path in source.glob("*.py"):
        kinds |= set(
            re.findall(r'= "((?:balance|invoice|owner|topup|provider|books)\.\w+)"', path.read_text())
        )
    for folder in ("outbox", "webhooks"):
        for path in (source / folder).glob("*.py"):
            kinds |= set(re.findall(r'= "(provider\.\w+)"', path.read_text()))
    assert kinds
    assert kinds <= set(letters.LETTERS)
