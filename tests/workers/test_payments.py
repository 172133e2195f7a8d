"""What the workers do about payments: send, top up, charge invoices, hear events, tell wallets."""

from dataclasses import replace
from datetime import timedelta

import pytest

from kindling_billing import clocks, holds
from kindling_billing.models import AutoTopUp, Invoice, OutboxCall, Payment, StripeCustomer, utc_now
from kindling_billing.payments import payment_received
from kindling_billing.selectors import balance_get, spendable_map
from kindling_billing.settlements import account_sum
from kindling_billing.stripe_api.outcomes import ProviderAway, ProviderRefused
from kindling_billing.terms import terms_set
from kindling_fake_stripe import FakeStripe, fake_stripe
from kindling_platform.accounts.models import Organisation
from kindling_till import CENT, Till
from kindling_workers import payments
from kindling_workers.tasks import payments as tasks
from kindling_workers.valkey import valkey_client

__all__ = ["fake_stripe"]
pytestmark = pytest.mark.django_db


@pytest.fixture
def till(fake_stripe: FakeStripe) -> Till:
    fake_stripe.calm()
    fake_stripe.webhooks()
    return Till(fake_stripe, fake_stripe.api())


def test_who_is_below_the_threshold_is_topped_up_once(till: Till):
    owner, other = till.owner(), till.owner()
    till.wish(owner, cap=500)
    till.wish(other, threshold=1)
    assert payments.topups_make(till.api) == 1
    assert payments.topups_make(till.api) == 0
    assert (till.wallet(owner), till.wallet(other)) == (2500, 2000)


def test_stripe_reckons_the_tax_of_a_top_up_that_nobody_sees(till: Till, settings):
    settings.KINDLING_ENV = replace(settings.KINDLING_ENV, stripe_tax=True)
    owner, untaxed = till.owner(), till.owner()
    address(till, owner, "DE")
    for one in (owner, untaxed):
        till.wish(one, amount=1000, cap=1000)
    assert payments.topups_make(till.api) == 2
    paid = {row.owner_id: row for row in Payment.objects.filter(purpose="auto_topup")}
    assert (paid[owner].amount_cents, paid[owner].tax_cents, till.wallet(owner)) == (1000, 190, 3000)
    assert (paid[untaxed].tax_cents, till.wallet(untaxed)) == (0, 3000)
    till.deliver(copies=2)
    charged = {row["id"]: row["amount_received"] for row in till.paid_intents()}
    assert (charged[paid[owner].intent_id], charged[paid[untaxed].intent_id]) == (1190, 1000)
    assert account_sum("tax") == 190 * CENT


def test_without_stripes_tax_the_agreed_rate_is_charged(till: Till):
    owner = till.owner()
    terms_set(owner_id=owner, tax_basis_points=700)
    till.wish(owner, amount=1000, cap=1000)
    assert payments.topups_make(till.api) == 1
    assert Payment.objects.get(purpose="auto_topup").tax_cents == 70
    assert till.wallet(owner) == 3000


def test_a_tax_that_cannot_be_asked_for_charges_nobody(till: Till, settings):
    settings.KINDLING_ENV = replace(settings.KINDLING_ENV, stripe_tax=True)
    owner = till.owner()
    till.wish(owner, amount=1000, cap=1000)
    till.fake.switch("faults", outage=True)
    with pytest.raises(ProviderAway):
        payments.topups_make(till.api)
    assert not Payment.objects.filter(purpose="auto_topup").exists()
    till.fake.calm()
    assert payments.topups_make(till.api) == 1
    assert till.wallet(owner) == 3000


def test_one_whose_tax_cannot_be_told_does_not_hold_up_the_others(till: Till, settings):
    settings.KINDLING_ENV = replace(settings.KINDLING_ENV, stripe_tax=True)
    owners = [till.owner() for _ in range(3)]
    for owner in owners:
        till.wish(owner, amount=1000, cap=1000)
    StripeCustomer.objects.filter(owner_id=owners[0]).update(customer_id="cus_elsewhere")
    assert payments.topups_make(till.api) == 2
    assert [till.wallet(owner) for owner in owners] == [2000, 3000, 3000]
    assert "cus_elsewhere" in AutoTopUp.objects.get(owner_id=owners[0]).paused_reason


def test_what_is_wrong_with_the_account_pauses_nobody(till: Till, settings, monkeypatch: pytest.MonkeyPatch):
    settings.KINDLING_ENV = replace(settings.KINDLING_ENV, stripe_tax=True)
    owner = till.owner()
    till.wish(owner, amount=1000, cap=1000)

    def refuse(*_: object, **__: object) -> int:
        raise ProviderRefused("tax_not_set_up", "Stripe Tax has no origin address.", param="line_items")

    with monkeypatch.context() as patch:
        patch.setattr(payments.reading, "tax_read", refuse)
        assert payments.topups_make(till.api) == 0
    assert AutoTopUp.objects.get(owner_id=owner).paused_reason == ""
    assert payments.topups_make(till.api) == 1


def test_who_is_suspended_is_not_charged_by_itself(till: Till):
    owner = till.owner()
    till.wish(owner, amount=1000, cap=1000)
    org = Organisation.objects.create(id=owner, name="Ada", slug="ada", suspended_at=utc_now())
    assert payments.topups_make(till.api) == 0
    org.suspended_at = None
    org.save()
    assert payments.topups_make(till.api) == 1


def test_a_clock_that_is_wrong_charges_nobody(till: Till, monkeypatch: pytest.MonkeyPatch):
    owner = till.owner()
    till.wish(owner)
    monkeypatch.setattr(tasks, "provider_find", lambda: till.api)
    for days in (40, -40):
        monkeypatch.setattr(clocks, "utc_now", lambda days=days: utc_now() + timedelta(days=days))
        tasks.topups()
        tasks.invoices()
    assert till.wallet(owner) == 2000
    monkeypatch.setattr(clocks, "utc_now", utc_now)
    tasks.topups()
    assert till.wallet(owner) == 2500


def address(till: Till, owner: str, country: str) -> None:
    customer = StripeCustomer.objects.get(owner_id=owner).customer_id
    till.fake.http.post(f"/v1/customers/{customer}", data={"address[country]": country})


def test_what_waits_is_sent(till: Till):
    owner = till.owner()
    till.wish(owner)
    call = till.auto(owner)
    assert call is not None
    assert payments.outbox_send(till.api) == 1
    assert OutboxCall.objects.get(id=call.id).state == "done"


def test_events_that_no_webhook_brought_are_heard(till: Till):
    owner = till.stranger()
    till.pay(till.checkout(owner))
    till.fake.webhooks()
    assert payments.events_hear(till.api) > 0
    assert till.wallet(owner) == 2000


def test_an_open_invoice_is_charged_and_not_asked_for_again_at_once(till: Till):
    good, bad = till.owner(), till.owner(card="4000000000000341")
    rows = {owner: an_invoice(till, owner) for owner in (good, bad)}
    assert payments.invoices_charge(till.api) == 2
    for row in rows.values():
        row.refresh_from_db()
    assert (rows[good].state, rows[good].paid_cents, rows[bad].state) == ("paid", 1200, "final")
    assert payments.invoices_charge(till.api) == 0
    Payment.objects.filter(owner_id=bad).update(created_at=till.now() - timedelta(days=4))
    assert payments.invoices_charge(till.api) == 1


def test_a_wallet_that_the_gateway_knows_is_told(till: Till):
    owner = "org_told"
    client = valkey_client()
    payment_received(intent_id="pi_told", owner_id=owner, amount_cents=500)
    try:
        payments.wallet_tell(owner)
        assert client.hget(holds.wallet_key(owner), "v") == str(balance_get(owner_id=owner).version)
        assert client.hget(holds.wallet_key(owner), "b") == str(5 * 10**9)
    finally:
        client.delete(*holds.script_keys(owner))


def test_what_a_credit_limit_leaves_is_told(till: Till):
    owner = "org_told_limit"
    client = valkey_client()
    payment_received(intent_id="pi_told_limit", owner_id=owner, amount_cents=500)
    terms_set(owner_id=owner, mode="postpaid", credit_limit_picousd=2 * 10**12)
    spendable = spendable_map(owner_ids=[owner])[owner]
    try:
        payments.wallet_tell(owner)
        assert client.hget(holds.wallet_key(owner), "v") == str(spendable.version)
        assert client.hget(holds.wallet_key(owner), "b") == str(7 * 10**9)
    finally:
        client.delete(*holds.script_keys(owner))


def an_invoice(till: Till, owner: str) -> Invoice:
    number = Invoice.objects.count() + 1
    return Invoice.objects.create(
        owner_id=owner, month=till.now().date().replace(day=1), state="final", year=2026, number=number,
        due_cents=1000, tax_cents=200, issued_at=till.now(), due_at=till.now(),
    )  # fmt: skip
