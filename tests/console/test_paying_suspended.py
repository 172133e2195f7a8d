"""A suspended organisation pays in the console what it owes, and nothing else."""

import re

import pytest
from django.urls import reverse

from kindling_billing.payment_selectors import payment_list
from kindling_billing.terms import terms_get
from kindling_console_world import Member
from kindling_fake_stripe import FakeStripe
from kindling_overdue import make_overdue, pay_page
from kindling_platform.accounts.models import Organisation
from kindling_platform.accounts.suspension import organisation_suspend
from kindling_platform.common.actors import SYSTEM

BILLING = "/console/billing/"


@pytest.fixture(autouse=True)
def stripe(payments_on: FakeStripe) -> FakeStripe:
    payments_on.webhooks()
    return payments_on


def test_the_overdue_invoice_is_paid(member: Member, stripe: FakeStripe):
    invoice = make_overdue(member.org.id)
    organisation_suspend(org=member.org, reason="Stolen cards.", actor=SYSTEM)
    html = member.client.get(BILLING).content.decode()
    assert "pay open invoices" in html
    assert reverse("console:invoice-pay", args=[invoice.id]) in html
    reply = member.client.post(reverse("console:invoice-pay", args=[invoice.id]))
    assert reply.status_code == 303
    live = member.client.get(f"{reply['Location'].split('?')[0]}live/?go=1", headers={"HX-Request": "true"})
    pay_page(stripe, live["HX-Redirect"])
    invoice.refresh_from_db()
    assert invoice.state == "paid"
    assert terms_get(owner_id=member.org.id).suspended_at is None
    assert Organisation.objects.get(id=member.org.id).suspended_at is not None
    assert (
        reverse("console:invoice-pay", args=[invoice.id]) not in member.client.get(BILLING).content.decode()
    )


def test_the_banner_says_what_is_owed_and_pays_it(member: Member, stripe: FakeStripe):
    first, last = make_overdue(member.org.id, cents=1250), make_overdue(member.org.id, number=2)
    html = member.client.get("/console/keys/").content.decode()
    assert terms_get(owner_id=member.org.id).suspended_reason in html
    for invoice, sum_ in ((first, "$12.50"), (last, "$10.00")):
        form = rf'action="{reverse("console:invoice-pay", args=[invoice.id])}".*?Pay \{sum_}</button>'
        assert re.search(form, html), invoice
    for invoice, left in ((first, True), (last, False)):
        reply = member.client.post(reverse("console:invoice-pay", args=[invoice.id]))
        live = f"{reply['Location'].split('?')[0]}live/"
        ready = member.client.get(f"{live}?go=1", headers={"HX-Request": "true"})
        pay_page(stripe, ready["HX-Redirect"])
        # The page that waits for the payment takes the banner away by itself.
        part = member.client.get(live, headers={"HX-Request": "true"}).content.decode()
        assert "The invoice is paid" in part
        assert ("Requests are stopped" in part) is left
    assert 'id="stop" hx-swap-oob="true"></div>' in part


def test_the_portal_opens_and_credit_is_not_sold(member: Member):
    organisation_suspend(org=member.org, reason="Stolen cards.", actor=SYSTEM)
    assert member.client.get(reverse("console:billing-portal")).status_code == 302
    assert member.client.post(f"{BILLING}add/", {"amount": "20"}).status_code == 403
    assert not payment_list(owner_id=member.org.id)


@pytest.mark.parametrize("role", ["developer", "viewer"])
def test_roles_without_billing_pay_nothing(member: Member, role: str):
    invoice = make_overdue(member.org.id)
    member.role(role)
    url = reverse("console:invoice-pay", args=[invoice.id])
    assert member.client.post(url).status_code == 403
    html = member.client.get("/console/").content.decode()
    assert "Requests are stopped" in html
    assert url not in html
