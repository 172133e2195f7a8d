"""Paying an invoice over the API, also while suspended: dunning ends with it, the operator's suspension does not."""

import pytest

from kindling_billing.collecting import invoice_write_off
from kindling_billing.models import Invoice
from kindling_billing.terms import terms_get
from kindling_fake_stripe import FakeStripe
from kindling_overdue import make_overdue, pay_page
from kindling_people import Customer
from kindling_platform.accounts.models import Organisation
from kindling_platform.accounts.suspension import organisation_suspend
from kindling_platform.audit.models import AuditEvent
from kindling_platform.common.actors import SYSTEM

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def stripe(payments_on: FakeStripe) -> FakeStripe:
    payments_on.webhooks()
    return payments_on


def pay(ada: Customer, invoice: Invoice, stripe: FakeStripe) -> str:
    reply = ada.client("manage").call("post", f"invoices/{invoice.id}/pay")
    assert reply.status_code == 201, reply.content
    made = reply.json()
    assert (made["purpose"], made["state"]) == ("invoice", "open")
    pay_page(stripe, made["url"])
    invoice.refresh_from_db()
    return invoice.state


def refusal(reply) -> tuple[int, str]:
    return reply.status_code, reply.json()["error"]["code"]


def is_unpaid(ada: Customer) -> bool:
    return terms_get(owner_id=ada.org.id).suspended_at is not None


def test_paying_the_overdue_one_ends_dunning(ada: Customer, stripe: FakeStripe):
    invoice = make_overdue(ada.org.id)
    assert is_unpaid(ada)
    assert pay(ada, invoice, stripe) == "paid"
    assert not is_unpaid(ada)
    event = AuditEvent.objects.get(action="invoice.pay_begun")
    assert (event.actor_label, event.data["invoice"]) == ("key test", invoice.id)


def test_dunning_ends_with_the_last_one(ada: Customer, stripe: FakeStripe):
    first, last = make_overdue(ada.org.id), make_overdue(ada.org.id, number=2)
    assert pay(ada, first, stripe) == "paid"
    assert is_unpaid(ada)
    assert pay(ada, last, stripe) == "paid"
    assert not is_unpaid(ada)


def test_the_operators_suspension_stays(ada: Customer, stripe: FakeStripe):
    invoice = make_overdue(ada.org.id)
    organisation_suspend(org=ada.org, reason="Stolen cards.", actor=SYSTEM)
    assert pay(ada, invoice, stripe) == "paid"
    assert not is_unpaid(ada)
    assert Organisation.objects.get(id=ada.org.id).suspended_at is not None
    refused = ada.client().call("post", "payments", {"amount_cents": 2000})
    assert refusal(refused) == (412, "account_suspended")
    assert "pay open invoices" in refused.json()["error"]["message"]


def test_one_that_was_given_up_may_be_paid_and_ends_dunning(ada: Customer, stripe: FakeStripe):
    invoice = make_overdue(ada.org.id)
    invoice_write_off(invoice_id=invoice.id, reason="Out of reach")
    assert is_unpaid(ada)
    assert pay(ada, invoice, stripe) == "uncollectible"  # the loss is won back, and stays on record
    assert not is_unpaid(ada)
    again = ada.client().call("post", f"invoices/{invoice.id}/pay")
    assert refusal(again) == (400, "invoice_not_open")


def test_a_payment_that_is_begun_goes_on(ada: Customer, stripe: FakeStripe):
    invoice, client = make_overdue(ada.org.id), ada.client()
    first, again = (client.call("post", f"invoices/{invoice.id}/pay").json() for _ in range(2))
    assert first["id"] == again["id"]


def test_only_ones_own_and_only_with_the_scope(ada: Customer, bob: Customer):
    path = f"invoices/{make_overdue(ada.org.id).id}/pay"
    assert refusal(bob.client().call("post", path)) == (404, "not_found")
    assert refusal(ada.client("read").call("post", path)) == (403, "scope_missing")


def test_the_portal_opens_also_while_suspended(ada: Customer):
    organisation_suspend(org=ada.org, reason="Stolen cards.", actor=SYSTEM)
    reply = ada.client().call("post", "billing-portal")
    assert (reply.status_code, reply["Cache-Control"]) == (200, "no-store")
    assert reply.json()["url"].startswith("http")
    assert refusal(ada.client("read").call("post", "billing-portal")) == (403, "scope_missing")
