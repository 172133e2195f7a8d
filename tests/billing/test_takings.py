"""What the ledger moved besides usage, by day: each figure once, with the usual sign."""

from datetime import timedelta

import pytest

from kindling_billing.disputes import dispute_closed, dispute_opened
from kindling_billing.models import utc_now
from kindling_billing.money import cents_to_pico
from kindling_billing.payments import payment_received, payment_refunded
from kindling_billing.services import UsageCharge, credit_grant, usage_post
from kindling_billing.settlements import settlement_received
from kindling_billing.takings import Takings, takings_over_time

pytestmark = pytest.mark.django_db


def taken(step: str = "day") -> Takings:
    total = Takings()
    now = utc_now()
    for one in takings_over_time(
        start=now - timedelta(days=1), end=now + timedelta(days=1), step=step
    ).values():
        total.add(one)
    return total


def test_each_movement_counts_once():
    payment_received(intent_id="pi_1", owner_id="org_1", amount_cents=5000, tax_cents=950)
    payment_refunded(refund_id="re_1", intent_id="pi_1", amount_cents=1190)
    payment_received(intent_id="pi_2", owner_id="org_1", amount_cents=300)
    dispute_opened(dispute_id="du_1", intent_id="pi_2", amount_cents=300)
    credit_grant(owner_id="org_1", amount_picousd=7, source_id="g", memo="Gift", actor_id="")
    settlement_received(settlement_id="txn_1", amount_cents=5950, fee_cents=203)
    usage_post([UsageCharge(owner_id="org_1", request_id="r1", cost_picousd=10)])
    found = taken()
    assert found.received == cents_to_pico(6250)
    assert (found.refunded, found.disputed) == (cents_to_pico(1190), cents_to_pico(300))
    assert (found.granted, found.fees) == (7, cents_to_pico(203))
    assert found.taxed == cents_to_pico(950 - 190)
    assert (found.expired, found.invoiced, found.given_up) == (0, 0, 0)
    assert taken("hour") == taken("month") == found


def test_a_dispute_that_is_won_is_nothing_taken_back():
    payment_received(intent_id="pi_2", owner_id="org_1", amount_cents=300)
    dispute_opened(dispute_id="du_1", intent_id="pi_2", amount_cents=300)
    dispute_closed(dispute_id="du_1", won=True)
    assert (taken().received, taken().disputed) == (cents_to_pico(300), 0)


def test_only_known_steps_are_taken():
    with pytest.raises(ValueError, match="week"):
        takings_over_time(start=utc_now(), end=utc_now(), step="week")
