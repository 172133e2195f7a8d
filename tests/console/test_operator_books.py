"""The operator's pages about money: revenue, risk, reconciliation, records, proofs, rating anew, the audit log."""

import csv
import io
import re
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from kindling_billing.models import ComparedMovement, FailedRefund, Invoice, OutboxCall, StripeEvent
from kindling_billing.models.prices import Rerating
from kindling_billing.payment_selectors import payment_list
from kindling_billing.payments import payment_received
from kindling_billing.saved_cards import card_list
from kindling_billing.selectors import balance_get
from kindling_billing.services import price_publish
from kindling_console_world import INPUT, OUTPUT, Member, World
from kindling_fake_stripe import FakeStripe
from kindling_platform.audit.models import AuditEvent
from kindling_platform.common.clock import now
from kindling_platform.deployments.proofs import platform_prove
from kindling_platform.keys.limits import limits_set
from kindling_platform.usage.models import ParkedUsage, WitnessDrift
from kindling_platform.usage.rerating import rerating_step

COST = 10 * INPUT + 5 * OUTPUT
CENT = 10**10
BOOKS = "/console/operator/"


def html_of(member: Member, path: str, **query: str) -> str:
    reply = member.client.get(f"{BOOKS}{path}", query)
    assert reply.status_code == 200
    return reply.content.decode()


def csv_of(member: Member, path: str, **query: str) -> list[dict[str, str]]:
    reply = member.client.get(f"{BOOKS}{path}", query)
    assert reply["Content-Type"].startswith("text/csv")
    return list(csv.DictReader(io.StringIO(b"".join(reply).decode())))


def post(member: Member, path: str, **form: str) -> str:
    """Send a form, and what the page says then."""
    reply = member.client.post(f"{BOOKS}{path}", form, follow=True)
    assert reply.status_code == 200
    return reply.content.decode()


def pay(member: Member, stripe: FakeStripe) -> str:
    """A top-up of $20 by card, with its webhooks; the payment's intent."""
    reply = member.client.post("/console/billing/add/", {"amount": "20"})
    live = member.client.get(f"{reply['Location'].split('?')[0]}live/?go=1", headers={"HX-Request": "true"})
    stripe.switch("pay", session=live["HX-Redirect"].rsplit("/", 1)[1])
    deliver(stripe)
    return payment_list(owner_id=member.org.id)[0].intent_id


def an_hour_ago() -> dict[str, int]:
    """Times of a request before the world's own price began."""
    at = int((now() - timedelta(hours=1)).timestamp() * 1000)
    return {"started_ms": at, "first_token_ms": at + 20, "finished_ms": at + 60}


def price_since_yesterday(world: World, *, factor: int) -> None:
    price_publish(
        sku=world.model.id, input_picousd=factor * INPUT, cached_input_picousd=INPUT,
        output_picousd=factor * OUTPUT, valid_from=now() - timedelta(days=1),
    )  # fmt: skip


def deliver(stripe: FakeStripe) -> None:
    for one in stripe.webhooks():
        headers = {"HTTP_STRIPE_SIGNATURE": one["signature"]}
        Client().post("/stripe/webhook", one["payload"], content_type="application/json", **headers)


def test_revenue_is_the_sum_of_usage_and_of_what_was_paid(world: World, member: Member):
    world.use(member, requests=3)
    payment_received(intent_id="pi_1", owner_id=member.org.id, amount_cents=2000)
    html = html_of(world.operator, "revenue/", range="24h")
    assert "$0.000009" in html and "$20.00" in html and member.org.name in html
    for span in ("24h", "7d", "12m"):
        rows = csv_of(world.operator, "revenue.csv", range=span)
        assert sum(int(row["usage_picousd"]) for row in rows) == 3 * COST
        assert sum(int(row["received_picousd"]) for row in rows) == 2000 * CENT
    assert len(rows) == 12
    assert "kindling/spark" in html_of(world.operator, "revenue/", range="12m", by="model")


def test_who_is_at_risk_and_giving_an_invoice_up(world: World, member: Member):
    assert "Nobody is at risk" in html_of(world.operator, "risk/")
    invoice = Invoice.objects.create(
        owner_id=member.org.id, month=now().date().replace(day=1), due_cents=1200, state="final", year=2026,
        number=7, due_at=now() - timedelta(days=40), dunned=3,
    )  # fmt: skip
    html = html_of(world.operator, "risk/")
    assert "1 invoice overdue, 40 days at most; reminder 3 of 3." in html
    assert "2026-000007" in html and "$12.00" in html
    assert "Nobody has this reason" in html_of(world.operator, "risk/", kind="card")
    (row,) = csv_of(world.operator, "risk.csv")
    assert (row["slug"], row["open_cents"], row["reasons"]) == (member.org.slug, "1200", "overdue")
    assert "Say why" in post(world.operator, f"risk/invoices/{invoice.id}/give-up/", note=" ")
    assert "The invoice is given up." in post(
        world.operator, f"risk/invoices/{invoice.id}/give-up/", note="Bankrupt"
    )
    event = AuditEvent.objects.get(action="invoice.written_off")
    assert (event.actor_label, event.data["before"]["state"]) == (world.operator.user.email, "final")


def test_reconciliation_by_day_and_by_movement(world: World, member: Member, payments_on: FakeStripe):
    pay(member, payments_on)
    assert "Not compared yet" in html_of(world.operator, "reconciliation/")
    charge = payments_on.http.post(
        "/v1/payment_intents",
        data={"amount": "500", "currency": "usd", "payment_method": "pm_card_visa", "confirm": "true"},
    ).json()["latest_charge"]
    html = post(world.operator, "reconciliation/")
    assert "Made at Stripe by hand" in html and charge in html and "Refund it in Stripe" in html
    day = f"{now():%Y-%m-%d}"
    of_day = html_of(world.operator, f"reconciliation/{day}/")
    assert member.org.name in of_day and "$20.00" in of_day
    rows = {row["id"]: row for row in csv_of(world.operator, "reconciliation.csv")}
    assert (rows[charge]["cause"], rows[charge]["stripe_cents"]) == ("made_elsewhere", "500")
    assert rows[charge]["next_step"]
    assert "The difference is accepted." in post(
        world.operator, f"reconciliation/{charge}/accept/", note="A gift"
    )
    assert "A gift" in html_of(world.operator, f"reconciliation/{day}/")
    assert ComparedMovement.objects.get(id=charge).accepted_by == world.operator.user.email
    for odd in ("2026-01-01", "2026-13-01", "yesterday"):
        assert world.operator.client.get(f"{BOOKS}reconciliation/{odd}/").status_code == 404


def test_a_provider_that_is_away_is_said_with_the_age(world: World, member: Member, payments_on: FakeStripe):
    pay(member, payments_on)
    post(world.operator, "reconciliation/")
    payments_on.switch("faults", outage=True)
    html = post(world.operator, "reconciliation/")
    assert "Stripe could not be compared with." in html and "What you see was compared" in html
    assert "payment_provider_away" in html
    payments_on.switch("faults", outage=False)
    assert "could not be compared" not in post(world.operator, "reconciliation/")


def test_a_refund_that_came_back_is_given_as_credit(world: World, member: Member, payments_on: FakeStripe):
    intent = pay(member, payments_on)
    refund = payments_on.http.post("/v1/refunds", data={"payment_intent": intent, "amount": "700"}).json()
    deliver(payments_on)
    payments_on.switch("refund_fail", refund=refund["id"])
    deliver(payments_on)
    html = html_of(world.operator, "records/", kind="refunds")
    assert refund["id"] in html and "expired_or_canceled_card" in html and "Give as credit" in html
    (row,) = csv_of(world.operator, "records.csv", kind="refunds")
    assert (row["amount_cents"], row["what_to_do"][:17]) == ("700", "Give it back as c")
    before = balance_get(owner_id=member.org.id).picousd
    action = f"records/refunds/{refund['id']}/credit/"
    assert "has the money as credit" in post(world.operator, action)
    assert balance_get(owner_id=member.org.id).picousd - before == 700 * CENT
    assert "was credited already" in post(world.operator, action)
    assert FailedRefund.objects.get().resolved_by == world.operator.user.email


def test_usage_that_was_parked_is_billed_or_given_up(world: World, member: Member):
    known, world.price_id = world.price_id, "prc_gone"
    first, second = world.use(member, requests=2, **an_hour_ago())
    world.price_id = known
    html = html_of(world.operator, "records/")
    assert "There is no price version" in html and "Publish a price that holds" in html
    assert "no price version" in post(world.operator, f"records/usage/{first}/release/")
    price_since_yesterday(world, factor=1)
    assert "It is billed." in post(world.operator, f"records/usage/{first}/release/")
    assert "Say why nobody is billed" in post(world.operator, f"records/usage/{second}/dismiss/", note="")
    assert "Nobody is billed for it." in post(
        world.operator, f"records/usage/{second}/dismiss/", note="A test"
    )
    assert not ParkedUsage.objects.exists()
    event = AuditEvent.objects.get(action="usage.dismissed")
    assert event.data["before"]["record"]["prompt_tokens"] == 10
    assert world.operator.client.post(f"{BOOKS}records/usage/nonsense/release/").status_code == 303
    assert world.operator.client.post(f"{BOOKS}records/usage/{first}/steal/").status_code == 404


def test_events_requests_and_witnesses_wait_with_their_remedies(world: World, member: Member):
    StripeEvent.objects.create(
        id="evt_1", type="refund.updated", state="parked", reason="payment_unknown: It is not booked.",
        happened_at=now(),
    )  # fmt: skip
    OutboxCall.objects.create(
        kind="refund", subject="pay_1:rfd_1", owner_id=member.org.id, state="refused", trouble="Too late."
    )
    WitnessDrift.objects.create(
        request_id="018f5a3e-0000-7000-8000-000000000001", organisation_id=member.org.id, kind="counts",
        booked={"prompt_tokens": 1}, logged={"prompt_tokens": 2}, found_at=now(),
    )  # fmt: skip
    assert "reconcile the payments, then try again" in html_of(world.operator, "records/", kind="events")
    html = html_of(world.operator, "records/", kind="requests")
    assert "Too late." in html and "Ask for another amount" in html
    assert "prompt_tokens 2" in html_of(world.operator, "records/", kind="witnesses")
    call = OutboxCall.objects.get()
    assert "The request is closed." in post(
        world.operator, f"records/requests/{call.id}/close/", note="Paid by hand"
    )
    assert "The event is closed." in post(world.operator, "records/events/evt_1/close/", note="Mended")
    assert "Nothing waits here" in html_of(world.operator, "records/", kind="events")
    for kind in ("usage", "refunds", "events", "requests", "witnesses"):
        csv_of(world.operator, "records.csv", kind=kind)


def test_proofs_are_shown_with_what_they_found(world: World, member: Member):
    assert "Not proved yet" in html_of(world.operator, "records/proofs/")
    world.use(member)
    platform_prove()
    assert "The books are sound" in html_of(world.operator, "records/proofs/")
    world.use(member)
    from kindling_platform.usage.models import UsageEvent

    UsageEvent.objects.update(cost_picousd=7)
    platform_prove()
    html = html_of(world.operator, "records/proofs/")
    assert "finding" in html and "cost 14 by their rows" in html
    assert any(int(row["findings"]) for row in csv_of(world.operator, "records/proofs.csv"))
    assert "The books are being proved" in post(world.operator, "records/proofs/")
    assert AuditEvent.objects.filter(action="proof.asked").count() == 1


def test_rating_anew_shows_its_effect_and_then_does_it(world: World, member: Member):
    world.use(member, requests=4, **an_hour_ago())
    span = {
        "model": world.model.id, "organisation": "", "start": f"{now() - timedelta(days=1):%Y-%m-%d}",
        "end": f"{now():%Y-%m-%d}", "reason": "A mistake",
    }  # fmt: skip
    assert "Nothing would change" in html_of(world.operator, "records/rating-anew/", **span)
    price_since_yesterday(world, factor=2)
    reply = world.operator.client.get(f"{BOOKS}records/rating-anew/", span | {"organisation": "nobody"})
    assert (reply.status_code, "There is no organisation" in reply.content.decode()) == (422, True)
    html = html_of(world.operator, "records/rating-anew/", **span)
    assert "4 of 4 requests would change, +$0.000012 in all" in html
    reply = world.operator.client.post(f"{BOOKS}records/rating-anew/", span | {"reason": " "})
    assert (reply.status_code, "Say why" in reply.content.decode()) == (422, True)
    assert "The run is started" in post(world.operator, "records/rating-anew/", **span)
    run = Rerating.objects.get()
    assert (run.reason, run.created_by) == ("A mistake", world.operator.user.email)
    assert "Going on" in html_of(world.operator, "records/rating-anew/")
    rerating_step(run_id=run.id)
    assert "Going on" not in html_of(world.operator, "records/rating-anew/")
    (row,) = csv_of(world.operator, "records/rating-anew.csv")
    assert (row["reason"], row["difference_picousd"]) == ("A mistake", str(4 * COST))


@pytest.mark.parametrize(
    "changes",
    [{"start": "x"}, {"end": "2020-01-01"}, {"start": "2199-01-01", "end": "2199-01-02"}, {"model": "m"}],
)
def test_a_span_that_cannot_be_is_said(world: World, changes: dict[str, str]):
    span = {"model": world.model.id, "start": "2026-01-01", "end": "2026-01-02", "reason": "x"} | changes
    reply = world.operator.client.get(f"{BOOKS}records/rating-anew/", span)
    assert reply.status_code == 422 and "field-error" in reply.content.decode()


def audited(world: World, member: Member) -> None:
    reply = member.client.post("/console/billing/limit/", {"limit": "7"})
    assert reply.status_code == 303
    limits_set(org=member.org, values={"budget_month_picousd": 9 * 10**12}, actor=member.actor)
    member.key("laptop")


def test_the_audit_log_says_who_what_whence_before_and_after(world: World, member: Member):
    audited(world, member)
    event = AuditEvent.objects.filter(action="limits.set").order_by("created_at")[0]
    assert event.ip == "127.0.0.1" and re.fullmatch(r"req_[0-9a-z]{26}", event.request_id)
    html = html_of(world.operator, "audit/")
    assert member.user.email in html and "limits.set" in html and event.request_id in html
    assert "<del>$7.00</del> → <ins>$9.00</ins>" in html


def test_every_filter_of_the_audit_log_is_in_the_address(world: World, member: Member):
    audited(world, member)
    event = AuditEvent.objects.filter(action="limits.set").order_by("created_at")[0]
    today = f"{now():%Y-%m-%d}"
    for query, expected in [
        ({"org": member.org.slug, "action": "limits"}, 2),
        ({"action": "limits.set", "who": member.user.email[:5]}, 2),
        ({"from": event.request_id}, 1),
        ({"from": "127.0.0.1"}, 1),
        ({"target": event.target, "action": "limits.set"}, 2),
        ({"org": member.org.slug, "money": "1", "since": today, "until": today, "action": "limits"}, 2),
        ({"since": "2199-01-01"}, 0),
        ({"org": "nobody"}, 0),
        ({"action": "key.created", "money": "1"}, 0),
    ]:
        assert len(csv_of(world.operator, "audit.csv", **query)) == expected, query
        html = html_of(world.operator, "audit/", **query)
        assert (html.count("<tr>") - 1 if expected else html.count("No event is like this") - 1) in {
            expected,
            0,
        }
    html = html_of(world.operator, "audit/", action="limits.set", who="\0", since="nonsense")
    assert "limits.set" in html


def test_long_logs_are_paged_and_the_csv_has_all_of_them(world: World, member: Member):
    for number in range(60):
        limits_set(org=member.org, values={"budget_month_picousd": number + 1}, actor=member.actor)
    html = html_of(world.operator, "audit/", action="limits.set")
    following = re.search(r'rel="next" href="\?([^"]+)"', html)
    assert following
    older = world.operator.client.get(f"{BOOKS}audit/?{following[1].replace('&amp;', '&')}").content.decode()
    assert (html.count("<tr>"), older.count("<tr>")) == (51, 11)
    assert len(csv_of(world.operator, "audit.csv", action="limits.set")) == 60
    assert html_of(world.operator, "audit/", cursor="nonsense")


def test_answers_carry_the_id_that_the_log_has(world: World, member: Member):
    reply: Any = member.client.post("/console/billing/limit/", {"limit": "7"})
    assert AuditEvent.objects.get(action="limits.set").request_id == reply["X-Request-Id"]
    key = member.client.post("/console/billing/limit/", {"limit": "8"}, headers={"X-Request-Id": "mine"})
    assert key["X-Request-Id"] != "mine"


def test_what_goes_to_the_provider_is_in_the_log_too(world: World, member: Member, payments_on: FakeStripe):
    pay(member, payments_on)
    (card,) = card_list(owner_id=member.org.id)
    (payment,) = payment_list(owner_id=member.org.id)
    invoice = Invoice.objects.create(
        owner_id=member.org.id, month=now().date().replace(day=1), due_cents=1200, state="final", year=2026,
        number=7, due_at=now(),
    )  # fmt: skip
    billing = "/console/billing/"
    wish = {"threshold": "5", "amount": "20", "monthly_cap": "100"}
    for path, form in [
        ("auto/", wish), ("auto/off/", {}), (f"cards/{card.id}/prefer/", {}), (f"invoices/{invoice.id}/pay/", {}),
        (f"cards/{card.id}/remove/", {}),
    ]:  # fmt: skip
        assert member.client.post(f"{billing}{path}", form).status_code == 303, path
    asked = {"payment": payment.id, "amount": "5", "reason": "Kind", "reference": f"rfd_{'0' * 26}"}
    world.operator.client.post(f"{BOOKS}organisations/{member.org.id}/refund/", asked)
    call = OutboxCall.objects.get(kind="refund")
    OutboxCall.objects.filter(id=call.id).update(state="stuck")
    StripeEvent.objects.filter(type="payment_intent.succeeded").update(state="parked")
    event = StripeEvent.objects.get(type="payment_intent.succeeded")
    assert "It is tried again now." in post(world.operator, f"records/requests/{call.id}/retry/")
    assert "It is booked." in post(world.operator, f"records/events/{event.id}/retry/")
    said = {one.action: one for one in AuditEvent.objects.exclude(request_id="")}
    by_member = {
        "topup.begun", "auto_topup.changed", "auto_topup.off", "card.chosen", "card.removed", "invoice.pay_begun",
    }  # fmt: skip
    by_operator = {"refund.given", "payment_request.retried", "payment_event.retried"}
    for actions, who in ((by_member, member), (by_operator, world.operator)):
        assert {said[action].actor_label for action in actions} == {who.user.email}
        assert {said[action].ip for action in actions} == {"127.0.0.1"}
    assert said["auto_topup.off"].data["before"]["enabled"] == "true"
    assert said["payment.received"].actor_label == "payment provider"


@pytest.mark.parametrize("name", ["operator-difference", "operator-invoice-give-up"])
def test_decisions_are_posts_of_the_operator_alone(world: World, member: Member, name: str):
    url = reverse(f"console:{name}", args=["x"])
    assert member.client.post(url, {"note": "x"}).status_code == 403
    assert world.operator.client.get(url).status_code == 302
    assert world.operator.client.post(url, {"note": "x"}).status_code == 303


@pytest.mark.parametrize("day", ["9999-12-31", "0001-01-01"])
def test_days_that_no_event_has_bound_nothing(world: World, day: str):
    for page in ("audit/", "audit.csv"):
        reply = world.operator.client.get(f"{BOOKS}{page}?since={day}&until={day}")
        assert reply.status_code == 200
