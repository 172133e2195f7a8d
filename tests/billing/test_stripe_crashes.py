"""The process ends at each durable step; another one goes on, and nobody is charged or credited twice or not at all."""

import os
from pathlib import Path

import pytest
from django.db import connections

import kindling_billing
from kindling_billing.models import OutboxCall, StripeCustomer
from kindling_billing.outbox.sending import LEASE
from kindling_billing.selectors import drift_list, ledger_sum
from kindling_billing.settlements import account_sum
from kindling_billing.steps import CRASH_AT, KILLED
from kindling_billing.webhooks.reconciling import movements_book, reconcile
from kindling_fake_stripe import FakeStripe
from kindling_till import Till

pytestmark = pytest.mark.django_db(transaction=True)
SENDER = ("topup.opened", "outbox.leased", "outbox.answered", "outbox.applied", "outbox.committed")
HEARER = ("webhook.read", "webhook.applied", "webhook.committed")


def in_a_process_that_dies(step: str, work) -> None:
    """Run in a child that ends at a step; it has connections of its own."""
    connections.close_all()
    pid = os.fork()
    if pid == 0:
        os.environ[CRASH_AT] = step
        try:
            work()
        finally:
            os._exit(1)
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == KILLED, f"{step} was not reached"


@pytest.fixture
def till(fresh_stripe: FakeStripe, transactional_db: None) -> Till:
    return Till(fresh_stripe, fresh_stripe.api())


def assert_charged_once(till: Till, owner: str) -> None:
    till.advance(hours=LEASE.total_seconds() / 3600)
    till.auto(owner)
    till.send(2)
    till.deliver()
    customer = StripeCustomer.objects.get(owner_id=owner).customer_id
    paid = [
        row for row in till.fake.rows("payment_intents", customer=customer) if row["status"] == "succeeded"
    ]
    assert sorted(row["amount"] for row in paid) == [500, 2000]
    assert till.wallet(owner) == 2500
    row, _ = reconcile(till.api, now=till.now())
    assert row.findings == []
    assert (account_sum("stripe_clearing"), ledger_sum(), drift_list()) == (0, 0, [])
    assert not OutboxCall.objects.exclude(state="done").exists()


@pytest.mark.parametrize("step", SENDER)
def test_a_sender_that_dies_charges_once(till: Till, step: str):
    owner = till.owner()
    till.wish(owner, cap=500)

    def work() -> None:
        till.auto(owner)
        till.send()

    in_a_process_that_dies(step, work)
    assert_charged_once(till, owner)


def test_a_sender_that_dies_between_two_rounds_charges_once(till: Till):
    owner = till.owner()
    till.wish(owner, cap=500)
    till.auto(owner)
    till.fake.switch("faults", stored_500_before=1)
    till.send()
    till.fake.calm()
    till.advance(hours=21)
    in_a_process_that_dies("outbox.next_round", lambda: till.send())
    assert_charged_once(till, owner)


@pytest.mark.parametrize("step", HEARER)
def test_a_hearer_that_dies_credits_once(till: Till, step: str):
    owner = till.owner()
    till.wish(owner, cap=500)
    till.auto(owner)
    till.fake.switch("faults", timeout_after=1)
    till.send()
    till.fake.calm()
    told = till.take()

    def work() -> None:
        for one in told:
            till.hear(till.signed_anew(one))

    in_a_process_that_dies(step, work)
    till.kept = told
    assert_charged_once(till, owner)


def test_a_settler_that_dies_books_once(till: Till):
    owner = till.owner()
    till.wish(owner, cap=500)
    in_a_process_that_dies("settlement.booked", lambda: movements_book(till.api))
    assert_charged_once(till, owner)


def test_every_step_is_tried():
    source = Path(str(kindling_billing.__path__[0]))
    named = {
        line.split('step("')[1].split('"')[0]
        for path in source.rglob("*.py")
        for line in path.read_text().splitlines()
        if line.strip().startswith('step("')
    }
    assert named == {*SENDER, *HEARER, "outbox.next_round", "settlement.booked"}
