"""A refund in every state that the provider knows: the money is out of the wallet once, from the first word on."""

from typing import Any

import pytest

from kindling_billing.models import FailedRefund
from kindling_billing.payments import payment_received
from kindling_billing.returns import failed_refund_list
from kindling_billing.selectors import balance_get
from kindling_billing.webhooks.effects import refund_apply
from kindling_books_rig import CENT, OWNER

pytestmark = pytest.mark.django_db


def refund(status: str, **more: Any) -> dict[str, Any]:
    return {"id": "re_1", "payment_intent": "pi_1", "amount": 500, "currency": "usd", "status": status} | more


@pytest.mark.parametrize(
    ("states", "left"),
    [
        (["succeeded"], 1500),
        (["pending"], 1500),
        (["pending", "succeeded", "pending"], 1500),
        (["requires_action", "pending", "succeeded"], 1500),
        (["failed"], 2000),
        (["canceled"], 2000),
        # Who had read it before it failed, and books it later, is too late.
        (["failed", "pending"], 2000),
        (["canceled", "pending", "succeeded", "failed"], 2000),
        # What comes back after it was booked waits for a person, and the customer has not got it meanwhile.
        (["pending", "failed"], 1500),
        (["succeeded", "failed", "failed"], 1500),
    ],
)
def test_the_wallet_follows_a_refund(states: list[str], left: int):
    payment_received(intent_id="pi_1", owner_id=OWNER, amount_cents=2000)
    for status in states:
        refund_apply(refund(status, failure_reason="expired_or_canceled_card"))
    assert balance_get(owner_id=OWNER).picousd == left * CENT


def test_one_that_failed_before_it_was_booked_waits_for_nobody():
    payment_received(intent_id="pi_1", owner_id=OWNER, amount_cents=2000)
    for status in ("failed", "pending", "failed"):
        refund_apply(refund(status, failure_reason="expired_or_canceled_card"))
    assert list(failed_refund_list()) == list(failed_refund_list(is_open=False)) == []
    assert FailedRefund.objects.get().state == "unbooked"
