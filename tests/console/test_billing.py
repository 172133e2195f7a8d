"""Billing: balance to the micro-dollar, a cause for every row, and what may be done about it by whom."""

import re

import pytest
from django.urls import reverse

from kindling_billing.invoicing import invoice_draft
from kindling_billing.payments import payment_received
from kindling_billing.services import credit_grant
from kindling_billing.terms import owner_resume, owner_suspend, terms_get
from kindling_console_world import Member, World
from kindling_fake_stripe import FakeStripe
from kindling_platform.common.clock import now

URL = "/console/billing/"


def page(member: Member, **query: str) -> str:
    return member.client.get(URL, query).content.decode()


def test_every_row_links_to_its_cause(world: World, member: Member):
    (request_id,) = world.use(member)
    payment_received(intent_id="pi_1", owner_id=member.org.id, amount_cents=500)
    html = page(member)
    assert f'<a href="/console/usage/requests/{request_id}/">Usage of kindling/spark</a>' in html
    assert "−$0.000003" in html
    assert '<a href="/console/billing/#credits">Starting credit</a>' in html
    assert '<a href="/console/billing/payments/pay_' in html
    assert "+$1.00" in html
    assert "$5.999997" in html


def test_where_no_payments_are_taken_the_way_to_credit_is_said_plainly(world: World, member: Member):
    html = page(member)
    assert "takes no payments by card" in html
    assert member.org.slug in html
    assert reverse("console:operator-organisations") not in html
    assert reverse("console:operator-organisations") in world.operator.client.get(URL).content.decode()


def test_kinds_can_be_chosen(world: World, member: Member):
    (request_id,) = world.use(member)
    payment_received(intent_id="pi_1", owner_id=member.org.id, amount_cents=500, memo="Bought")
    assert request_id not in page(member, kind="credit")
    assert request_id in page(member, kind="usage")
    payments = page(member, kind="payment").split('id="ledger"')[1]
    assert "Bought" in payments and "Starting credit" not in payments


def test_each_field_has_an_id_of_its_own_though_two_ask_for_an_amount(
    member: Member, payments_on: FakeStripe
):
    html = page(member)
    assert html.count('name="amount"') == 2
    ids = re.findall(r'\sid="([^"]*)"', html)
    assert len(ids) == len(set(ids))
    refused = member.client.post(reverse("console:auto-topup"), {"amount": "nothing"}).content.decode()
    assert refused.count('for="id_auto_amount"') == refused.count('id="id_auto_amount"') == 1


def test_large_balances_show_cents(member: Member):
    credit_grant(
        owner_id=member.org.id,
        amount_picousd=1_233 * 10**12,
        source_id="test:large",
        memo="Large",
        actor_id="test",
    )
    assert "$1,234.00" in page(member)


def test_the_ledger_is_paged(world: World, member: Member):
    world.use(member, requests=60)
    first = page(member)
    cursor = first.split("cursor=")[1].split("#")[0]
    assert first.count("Usage of kindling/spark") == 50
    assert page(member, cursor=cursor).count("Usage of kindling/spark") == 10


def test_test_mode_is_said(member: Member, payments_on: FakeStripe):
    assert "<strong>Test mode.</strong>" in page(member)
    assert "no money moves" in page(member)


def test_alert_and_limit_are_two_things(member: Member):
    assert member.client.post("/console/billing/alert/", {"below": "7.50"}).status_code == 303
    assert member.client.post("/console/billing/limit/", {"limit": "40"}).status_code == 303
    html = page(member)
    assert 'value="7.50"' in html and "only tells you" in html
    assert "$40.00" in html and "stops requests and deployments" in html
    assert member.client.post("/console/billing/limit/", {"limit": ""}).status_code == 303
    assert "$40.00" not in page(member)


@pytest.mark.parametrize(
    "amount", ["", "0", "-1", "4.99", "10000.01", "1e30", "abc", "5.001", "NaN", "9" * 24]
)
def test_what_is_no_top_up_stays_on_the_page_with_a_reason(
    member: Member, payments_on: FakeStripe, amount: str
):
    reply = member.client.post("/console/billing/add/", {"amount": amount})
    assert reply.status_code == 422
    assert 'class="field-error" role="alert"' in reply.content.decode()


WRITES = ["credit-add", "auto-topup", "auto-topup-off", "hard-limit", "balance-alert", "billing-details"]


@pytest.mark.parametrize("name", WRITES)
def test_who_may_only_look_changes_nothing(member: Member, name: str):
    member.role("developer")
    assert member.client.get(URL).status_code == 200
    assert member.client.post(reverse(f"console:{name}")).status_code == 403


def test_papers_are_pdfs(member: Member):
    payment_received(intent_id="pi_1", owner_id=member.org.id, amount_cents=500)
    invoice = invoice_draft(owner_id=member.org.id, month=now().date().replace(day=1))
    receipt = next(part for part in page(member).split('"') if part.endswith("receipt.pdf"))
    for url in (f"/console/billing/invoices/{invoice.id}.pdf", receipt):
        reply = member.client.get(url)
        assert (reply.status_code, reply["Content-Type"]) == (200, "application/pdf")
        assert reply.content.startswith(b"%PDF-")
        assert reply["Cache-Control"] == "no-store"


def test_every_page_says_why_requests_are_stopped_and_what_ends_it(world: World, member: Member):
    owner_suspend(owner_id=member.org.id, reason="Invoice KD-2026-0007 is not paid.")
    for url in (URL, "/console/usage/"):
        html = member.client.get(url).content.decode()
        assert "Requests are stopped until an overdue payment is made." in html
        assert "KD-2026-0007" in html and 'href="/console/billing/#invoices"' in html
    owner_resume(owner_id=member.org.id)
    assert "Requests are stopped" not in page(member)


def test_a_suspension_by_the_operator_is_told_as_theirs(world: World, member: Member):
    member.org.suspended_at = now()
    member.org.save(update_fields=["suspended_at"])
    assert "Your organisation is suspended." in member.client.get("/console/usage/").content.decode()


def test_what_invoices_cannot_print_is_named_beside_its_field(member: Member):
    url = "/console/billing/details/"
    assert member.client.post(url, {"bill_to": "Łódź\r\nМосква", "tax_id": "PL 1"}).status_code == 303
    reply = member.client.post(url, {"bill_to": "東京都", "tax_id": "JP 1"})
    html = reply.content.decode()
    assert reply.status_code == 422
    assert "Invoices cannot print 東 京 都. Write it in Latin, Greek or Cyrillic letters." in html
    assert re.search(r'<textarea[^>]* name="bill_to"[^>]*>', html)
    assert "Łódź" in terms_get(owner_id=member.org.id).bill_to


def test_white_space_is_folded_and_what_is_not_seen_has_a_number(member: Member):
    url = "/console/billing/details/"
    form = {"bill_to": "Ada\tByron\u00a0 Ltd \r\n1  Ash Lane", "tax_id": "PL\t1"}
    assert member.client.post(url, form).status_code == 303
    terms = terms_get(owner_id=member.org.id)
    assert (terms.bill_to, terms.tax_id) == ("Ada Byron Ltd\n1 Ash Lane", "PL 1")
    html = member.client.post(url, {"bill_to": "Ada\u202e \x07", "tax_id": "PL 1"}).content.decode()
    assert "Invoices cannot print U+202E U+0007." in html
