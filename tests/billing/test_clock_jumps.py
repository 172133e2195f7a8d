"""Clocks that jump: nobody is charged twice, nothing waits for ever, nobody is chased through a month at once."""

from datetime import timedelta

import pytest

from kindling_billing.collecting import STAGES, dunning_run
from kindling_billing.models import Invoice, Notice, OutboxCall
from kindling_billing.outbox.sending import call_list_due, call_send
from kindling_billing.terms import terms_get
from kindling_billing.webhooks.reconciling import events_catch_up
from kindling_till import Till

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize("days", [-30, -1, 1, 30])
def test_an_answer_that_was_lost_before_a_jump_is_charged_once(till: Till, days: int):
    owner = till.owner()
    till.wish(owner, amount=500, cap=500)
    call = till.auto(owner)
    assert call is not None
    till.fake.switch("faults", timeout_after=1)
    assert call_send(till.api, call_id=call.id, now=till.now()).state == "waiting"
    till.fake.calm()
    # Only our clock jumps; the provider's goes on as it was.
    jumped = till.now() + timedelta(days=days)
    call_send(till.api, call_id=call.id, now=jumped)
    assert OutboxCall.objects.get(id=call.id).state == "done"
    paid = [row for row in till.paid_intents() if row["metadata"].get("kindling_owner") == owner]
    assert sorted(row["amount_received"] for row in paid) == [500, 2000]
    assert till.wallet(owner) == 2500


def test_a_clock_that_was_set_back_makes_requests_wait_and_not_vanish(till: Till):
    owner = till.owner()
    till.wish(owner)
    call = till.auto(owner)
    assert call is not None
    assert call.id not in call_list_due(now=till.now() - timedelta(days=1))
    assert call.id in call_list_due(now=till.now())


def test_events_of_a_provider_whose_time_is_not_ours_are_heard_once(till: Till):
    owner = till.stranger()
    till.fake.advance(hours=72)
    till.pay(till.checkout(owner))
    till.fake.webhooks()
    assert till.wallet(owner) == 0
    assert events_catch_up(till.api).owner_ids == {owner}
    assert events_catch_up(till.api).events == 0
    assert till.wallet(owner) == 2000


def test_a_jump_of_a_year_takes_one_step_of_dunning(till: Till):
    owner = till.owner()
    due = till.now()
    invoice = Invoice.objects.create(
        owner_id=owner, month=due.date().replace(day=1), state="final", year=2026, number=1, due_at=due,
        issued_at=due, subtotal_cents=500, due_cents=500,
    )  # fmt: skip
    later = due + timedelta(days=365)
    assert [dunning_run(now=later) for _ in range(3)] == [1, 0, 0]
    invoice.refresh_from_db()
    assert invoice.dunned == 1 < len(STAGES)
    assert terms_get(owner_id=owner).suspended_at is None
    assert Notice.objects.filter(owner_id=owner, kind__startswith="invoice.").count() == 1
    # And back where it was: nothing is sent again, nothing is taken back.
    assert dunning_run(now=due + timedelta(hours=1)) == 0
