"""Each movement at the provider against clearing and the outbox: what agrees, and why something does not."""

from collections.abc import Iterator
from datetime import UTC, timedelta

import pytest

from kindling_billing.comparing.causes import CAUSES
from kindling_billing.comparing.days import days_compare, days_due
from kindling_billing.comparing.reports import (
    contact_get,
    contact_note,
    day_list,
    difference_accept,
    difference_list,
)
from kindling_billing.errors import BillingError
from kindling_billing.models import ComparedDay, ComparedMovement, FailedRefund, OutboxCall, Payment
from kindling_billing.payments import payment_received
from kindling_billing.returns import refund_credit
from kindling_billing.settlements import account_sum
from kindling_billing.stripe_api.outcomes import ProviderAway
from kindling_billing.webhooks.reconciling import movements_book, reconcile
from kindling_fake_stripe import FakeStripe
from kindling_till import Till

pytestmark = pytest.mark.django_db


@pytest.fixture
def till(fresh_stripe: FakeStripe) -> Iterator[Till]:
    yield Till(fresh_stripe, fresh_stripe.api())


def compare(till: Till) -> dict[str, ComparedMovement]:
    """Catch up and compare, as the hourly run does; the movements by id."""
    reconcile(till.api, now=till.now())
    days_compare(till.api, now=till.now())
    return {row.id: row for row in ComparedMovement.objects.all()}


def intent_of(owner_id: str) -> str:
    return Payment.objects.get(owner_id=owner_id).intent_id


def by_hand(till: Till, cents: int = 500, **metadata: str) -> str:
    """A payment that somebody makes in the provider's own pages."""
    asked = {"amount": str(cents), "currency": "usd", "payment_method": "pm_card_visa", "confirm": "true"}
    asked |= {f"metadata[{name}]": value for name, value in metadata.items()}
    return str(till.fake.http.post("/v1/payment_intents", data=asked).json()["latest_charge"])


def test_all_witnesses_of_a_payment_agree_to_the_cent(till: Till):
    till.owner(cents=2000)
    till.owner(cents=3333)
    rows = compare(till)
    assert [row.verdict for row in rows.values()] == ["agrees", "agrees"]
    for row in rows.values():
        assert row.stripe_cents == row.booked_cents == row.moved_cents == row.asked_cents
    day = ComparedDay.objects.get(day=till.now().astimezone(UTC).date())
    assert (day.movements, day.differing) == (2, 0)
    assert day.stripe_cents == day.booked_cents == day.moved_cents == day.asked_cents == 5333


def test_a_saved_card_is_compared_with_what_was_asked_of_it(till: Till):
    owner = till.owner()
    till.wish(owner)
    assert till.auto(owner) is not None
    till.send()
    till.deliver()
    rows = compare(till)
    assert {row.asked_cents for row in rows.values()} == {2000, 500}
    assert not difference_list()


def test_refunds_and_disputes_are_compared_with_their_sign(till: Till):
    owner, other = till.owner(cents=5000), till.owner(cents=3000)
    till.fake.http.post("/v1/refunds", data={"payment_intent": intent_of(owner), "amount": "1250"})
    dispute = till.fake.switch("dispute", payment_intent=intent_of(other))
    rows = compare(till)
    refund = next(row for row in rows.values() if row.kind == "refund")
    assert (refund.stripe_cents, refund.booked_cents, refund.moved_cents) == (-1250, -1250, -1250)
    assert (refund.verdict, refund.cause) == ("noted", "refund_elsewhere")
    assert (rows[dispute["id"]].stripe_cents, rows[dispute["id"]].verdict) == (-3000, "agrees")
    till.fake.switch("dispute_close", dispute=dispute["id"], won=True)
    rows = compare(till)
    assert (rows[dispute["id"]].stripe_cents, rows[dispute["id"]].booked_cents) == (0, 0)
    assert not difference_list()


def test_what_was_made_at_stripe_by_hand_is_named(till: Till):
    charge = by_hand(till)
    row = compare(till)[charge]
    assert (row.verdict, row.cause) == ("differs", "made_elsewhere")
    assert (row.stripe_cents, row.booked_cents, row.moved_cents) == (500, None, 500)


def test_a_payment_that_the_books_cannot_take_is_named(till: Till):
    owner = till.stranger()
    charge = by_hand(till, kindling_payment="pay_nowhere", kindling_owner=owner)
    assert compare(till)[charge].cause == "not_booked"


def test_a_booking_that_stripe_does_not_know_is_named(till: Till):
    payment_received(intent_id="pi_invented", owner_id="org_x", amount_cents=700)
    row = compare(till)["pi_invented"]
    assert (row.cause, row.stripe_cents, row.booked_cents) == ("not_at_stripe", None, 700)


def test_another_amount_in_the_outbox_is_named(till: Till):
    owner = till.owner()
    call = OutboxCall.objects.get(kind="checkout", owner_id=owner)
    call.params["line_items"][0]["price_data"]["unit_amount"] = 1900
    call.save()
    (row,) = compare(till).values()
    assert (row.cause, row.asked_cents) == ("asked_differs", 1900)


def test_a_payment_without_a_request_is_named(till: Till):
    owner = till.owner()
    OutboxCall.objects.filter(kind="checkout", owner_id=owner).delete()
    (row,) = compare(till).values()
    assert row.cause == "not_asked"


def test_a_movement_that_is_not_booked_yet_waits_and_is_late_after_hours(till: Till):
    till.owner()
    days_compare(till.api, now=till.now())
    row = ComparedMovement.objects.get()
    assert (row.verdict, row.cause) == ("waits", "not_moved_yet")
    till.offset += timedelta(hours=7)
    days_compare(till.api, now=till.now())
    assert ComparedMovement.objects.get().cause == "not_moved"
    movements_book(till.api)
    days_compare(till.api, now=till.now())
    assert ComparedMovement.objects.get().verdict == "agrees"


def test_requests_on_their_way_wait_and_late_ones_differ(till: Till):
    owner = till.owner()
    till.wish(owner)
    call = till.auto(owner)
    assert call is not None
    assert compare(till)[call.id].cause == "request_waits"
    till.offset += timedelta(hours=21)
    assert compare(till)[call.id].cause == "request_late"


def test_a_refund_that_comes_back_differs_until_somebody_decides(till: Till):
    owner = till.owner(cents=5000)
    refund = till.fake.http.post(
        "/v1/refunds", data={"payment_intent": intent_of(owner), "amount": "1250"}
    ).json()
    till.deliver()
    till.fake.switch("refund_fail", refund=refund["id"])
    row = compare(till)[refund["id"]]
    assert (row.cause, row.stripe_cents, row.booked_cents, row.moved_cents) == ("refund_failed", 0, -1250, 0)
    assert FailedRefund.objects.get().amount_cents == 1250
    refund_credit(refund_id=refund["id"], resolved_by="op")
    assert compare(till)[refund["id"]].verdict == "agrees"
    assert (till.wallet(owner), account_sum("stripe_clearing")) == (5000, 0)


def test_what_stripe_takes_for_itself_is_a_fee_and_other_movements_are_named(till: Till):
    fees = account_sum("stripe_fees")
    till.fake.switch("movement", type="stripe_fee", amount=-200)
    odd = till.fake.switch("movement", type="adjustment", amount=30)
    rows = compare(till)
    assert {id_: row.cause for id_, row in rows.items()} == {odd["id"]: "moved_only"}
    assert fees - account_sum("stripe_fees") == 200 * 10**10
    assert account_sum("stripe_clearing") == 30 * 10**10


def test_an_accepted_difference_counts_no_more_until_its_cause_changes(till: Till):
    charge = by_hand(till)
    compare(till)
    with pytest.raises(BillingError, match="Say why"):
        difference_accept(movement_id=charge, note="  ", accepted_by="op")
    difference_accept(movement_id=charge, note="A donation", accepted_by="op")
    with pytest.raises(BillingError, match="no open difference"):
        difference_accept(movement_id=charge, note="Again", accepted_by="op")
    assert not difference_list()
    row = compare(till)[charge]
    assert (row.accepted_note, ComparedDay.objects.get(day=row.day).differing) == ("A donation", 0)
    ComparedMovement.objects.filter(id=charge).update(cause="not_booked")
    compare(till)
    assert [one.id for one in difference_list()] == [charge]


def test_long_lists_are_read_page_by_page(till: Till):
    charges = {by_hand(till, 100 + number) for number in range(103)}
    rows = compare(till)
    assert charges <= set(rows)
    assert ComparedDay.objects.get(movements=103).stripe_cents == sum(range(100, 203))


def test_days_are_due_while_young_or_unsettled_or_never_compared(till: Till):
    till.owner()
    first = till.now().astimezone(UTC).date()
    assert first in days_due(now=till.now())
    by_hand(till)
    compare(till)
    till.advance(hours=24 * 10)
    due = days_due(now=till.now())
    assert first in due  # something differs there
    assert first + timedelta(days=5) in due  # never looked at
    days_compare(till.api, now=till.now())
    assert first + timedelta(days=5) not in days_due(now=till.now())


def test_a_provider_that_is_away_leaves_the_last_comparison(till: Till):
    till.owner()
    compare(till)
    contact_note()
    before = list(day_list().values())
    till.fake.switch("faults", outage=True)
    with pytest.raises(ProviderAway):
        days_compare(till.api, now=till.now())
    contact_note(trouble="no_answer: Stripe did not answer.")
    assert list(day_list().values()) == before
    contact = contact_get()
    assert contact.made_at and contact.failed_at and contact.made_at < contact.failed_at
    till.fake.switch("faults", outage=False)


def test_every_cause_says_what_to_do():
    assert all(cause.title and cause.next_step.endswith(".") for cause in CAUSES.values())
