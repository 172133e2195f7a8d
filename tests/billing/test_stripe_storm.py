"""A storm over the provider: lost answers, kept failures, rate limits, webhooks tripled and shuffled, a long silence.

Afterwards the provider has charged and given back what was asked, customers were credited what was charged less what
went back, and clearing is zero.
"""

import random
from collections import Counter

import pytest

from kindling_billing.models import AutoTopUp, OutboxCall, Payment
from kindling_billing.outbox.sending import call_list_due, call_send
from kindling_billing.refunding import refund_start
from kindling_billing.selectors import drift_list, ledger_sum
from kindling_billing.settlements import account_sum
from kindling_billing.webhooks.reconciling import reconcile
from kindling_fake_stripe import FakeStripe
from kindling_till import Till

pytestmark = pytest.mark.django_db
STORM = {
    "timeout_after": 0.10, "stored_500_after": 0.025, "stored_500_before": 0.025, "rate_limited": 0.03,
}  # fmt: skip


@pytest.mark.parametrize(
    ("seed", "owners", "rounds"),
    [(1, 4, 8), *(pytest.param(seed, 12, 40, marks=pytest.mark.long) for seed in range(2, 12))],
)
@pytest.mark.timeout(1200)
def test_the_books_come_out_of_a_storm(fresh_stripe: FakeStripe, seed: int, owners: int, rounds: int):
    till, luck = Till(fresh_stripe, fresh_stripe.api()), random.Random(seed)
    fresh_stripe.switch("faults", seed=seed, copies=3, **STORM)
    people = [till.owner(cents=luck.randrange(500, 5000)) for _ in range(owners)]
    for owner in people:
        till.wish(owner, amount=luck.randrange(500, 3000), cap=100_000_000)
    for number in range(rounds):
        rough_round(till, luck, people, silent=number == rounds // 2)
    settle(till)
    assert_the_books_agree(till, people)


def rough_round(till: Till, luck: random.Random, people: list[str], *, silent: bool) -> None:
    for owner in luck.sample(people, max(1, len(people) // 2)):
        # What paused them is the weather, not their cards.
        AutoTopUp.objects.filter(owner_id=owner).update(paused_reason="")
        till.auto(owner)
    refund_asked(luck)
    if silent:
        till.fake.switch("faults", outage=True)
        for _ in range(9):
            till.send()
            till.advance(hours=4)
        till.fake.switch("faults", outage=False)
    due = call_list_due(now=till.now())
    luck.shuffle(due)
    for call_id in due:
        call_send(till.api, call_id=call_id, now=till.now())
    waiting = till.take()
    luck.shuffle(waiting)
    till.kept = waiting[len(waiting) // 2 :]
    for one in waiting[: len(waiting) // 2]:
        till.hear(till.signed_anew(one))
    till.advance(hours=luck.choice([0.001, 0.01, 0.05]))


def refund_asked(luck: random.Random) -> None:
    """A part of some payment is asked back, twice with the same words."""
    payments = list(Payment.objects.filter(state="succeeded", refunded_cents=0).order_by("created_at", "id"))
    if not payments:
        return
    payment = luck.choice(payments)
    asked = {
        "owner_id": payment.owner_id, "payment_id": payment.id, "reference": f"of-{payment.id}",
        "amount_cents": luck.randrange(1, payment.total_cents // 2),
    }  # fmt: skip
    if not OutboxCall.objects.filter(kind="refund", subject=f"{payment.id}:of-{payment.id}").exists():
        assert [refund_start(**asked).is_repeated for _ in range(2)] == [False, True]


def settle(till: Till) -> None:
    """The weather clears; a day later nothing is open any more."""
    till.fake.calm()
    for _ in range(3):
        till.send(3)
        till.deliver()
        till.advance(hours=21)
    till.kept.clear()


def assert_the_books_agree(till: Till, people: list[str]) -> None:
    row, _ = reconcile(till.api, now=till.now())
    assert row.findings == []
    assert not OutboxCall.objects.exclude(state="done").exists()
    paid = till.paid_intents()
    asked = {payment.id: payment for payment in Payment.objects.all()}
    # Charges = intents: one for every payment, and of the amount that was asked for.
    assert Counter(intent["metadata"]["kindling_payment"] for intent in paid) == Counter(list(asked))
    for intent in paid:
        assert intent["amount_received"] == asked[intent["metadata"]["kindling_payment"]].total_cents
    # One refund for each that was asked for, and of its amount.
    given = till.fake.rows("refunds")
    refunds = OutboxCall.objects.filter(kind="refund")
    assert Counter((one["id"], one["amount"]) for one in given) == Counter(
        (call.result_id, call.params["amount"]) for call in refunds
    )
    assert given
    # Credits = charges, less what went back.
    back: Counter[str] = Counter()
    for call in refunds:
        back[call.owner_id] += call.params["amount"]
    for owner in people:
        charged = sum(i["amount_received"] for i in paid if i["metadata"]["kindling_owner"] == owner)
        assert till.wallet(owner) == charged - back[owner] > 0
    assert account_sum("stripe_clearing") == 0
    assert (ledger_sum(), drift_list()) == (0, [])
