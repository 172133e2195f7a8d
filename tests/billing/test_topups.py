"""Topping up by itself: when, how much, and never beyond what was wished."""

import dataclasses

import pytest

from kindling_billing.models import Notice, Terms
from kindling_billing.notices import notice_done, notice_list_waiting
from kindling_billing.payments import payment_failed, payment_open, payment_received
from kindling_billing.services import credit_grant, usage_post
from kindling_billing.terms import auto_topup_pause, auto_topup_set, terms_set
from kindling_billing.topup import TopUpFacts, auto_topup_decide, auto_topup_list_due
from kindling_books_rig import CENT, OWNER, USD, charge, refused

WISH = TopUpFacts(
    enabled=True, paused_reason="", threshold_cents=500, amount_cents=2000, monthly_cap_cents=5000,
    balance_picousd=499 * CENT, charged_this_month_cents=3000, attempt_open=False,
)  # fmt: skip


@pytest.mark.parametrize(
    ("change", "amount", "reason"),
    [
        ({}, 2000, ""),
        ({"balance_picousd": -10 * USD}, 2000, ""),
        ({"balance_picousd": 500 * CENT}, 0, "enough"),
        ({"enabled": False}, 0, "off"),
        ({"paused_reason": "Declined"}, 0, "paused"),
        ({"attempt_open": True}, 0, "under_way"),
        ({"pays_later": True}, 0, "pays_later"),
        ({"charged_this_month_cents": 3001}, 0, "cap_reached"),
    ],
)
def test_the_decision(change: dict, amount: int, reason: str):
    decision = auto_topup_decide(dataclasses.replace(WISH, **change))
    assert (decision.amount_cents, decision.reason) == (amount, reason)


@pytest.mark.django_db
def test_a_month_of_top_ups_stops_at_the_cap_and_at_a_refused_card():
    auto_topup_set(
        owner_id=OWNER, enabled=True, threshold_cents=500, amount_cents=2000, monthly_cap_cents=5000
    )
    assert auto_topup_list_due() == {}  # nothing was ever posted for this owner
    credit_grant(owner_id=OWNER, amount_picousd=USD, source_id="gift", memo="", actor_id="")
    amounts = []
    for number in range(3):
        decision = auto_topup_list_due()[OWNER]
        amounts.append((decision.amount_cents, decision.reason))
        if not decision.amount_cents:
            break
        payment = payment_open(owner_id=OWNER, purpose="auto_topup", amount_cents=decision.amount_cents)
        assert auto_topup_list_due()[OWNER].reason == "under_way"
        payment_received(intent_id=f"pi_{number}", owner_id=OWNER, amount_cents=2000, payment_id=payment.id)
        usage_post([charge(f"r{number}", prompt=200_000_000, made=0)])
    assert amounts == [(2000, ""), (2000, ""), (0, "cap_reached")]
    assert auto_topup_pause(owner_id=OWNER, reason="The card was declined.")
    assert not auto_topup_pause(owner_id=OWNER, reason="Again.")
    assert auto_topup_list_due() == {}


@pytest.mark.django_db
def test_who_pays_later_is_not_charged_in_advance():
    auto_topup_set(
        owner_id=OWNER, enabled=True, threshold_cents=500, amount_cents=2000, monthly_cap_cents=5000
    )
    credit_grant(owner_id=OWNER, amount_picousd=USD, source_id="gift", memo="", actor_id="")
    terms_set(owner_id=OWNER, mode="postpaid", credit_limit_picousd=100 * USD)
    assert auto_topup_list_due()[OWNER].reason == "pays_later"
    terms_set(owner_id=OWNER, mode="prepaid")
    assert auto_topup_list_due()[OWNER].amount_cents == 2000


@pytest.mark.django_db
def test_a_failed_attempt_does_not_count_toward_the_cap():
    auto_topup_set(
        owner_id=OWNER, enabled=True, threshold_cents=500, amount_cents=2000, monthly_cap_cents=2000
    )
    credit_grant(owner_id=OWNER, amount_picousd=USD, source_id="gift", memo="", actor_id="")
    payment = payment_open(owner_id=OWNER, purpose="auto_topup", amount_cents=2000)
    payment_failed(payment_id=payment.id, code="card_declined", message="Declined.")
    assert auto_topup_list_due()[OWNER].amount_cents == 2000


@pytest.mark.django_db
@pytest.mark.parametrize(("name", "code"), [("threshold", "amount_invalid"), ("cap", "cap_invalid")])
def test_wishes_that_cannot_be_are_refused(name: str, code: str):
    values = {"threshold_cents": 500, "amount_cents": 2000, "monthly_cap_cents": 5000}
    values |= {"threshold_cents": 0} if name == "threshold" else {"monthly_cap_cents": 1999}
    with refused(code):
        auto_topup_set(owner_id=OWNER, enabled=True, **values)


@pytest.mark.django_db
def test_a_low_balance_is_noted_once_for_each_time_it_falls():
    terms_set(owner_id=OWNER, low_balance_picousd=USD)
    credit_grant(owner_id=OWNER, amount_picousd=2 * USD, source_id="gift", memo="", actor_id="")
    for number in range(3):
        usage_post([charge(f"r{number}", prompt=6_000_000, made=0)])
    assert [(notice.kind, notice.owner_id) for notice in notice_list_waiting()] == [("balance.low", OWNER)]
    credit_grant(owner_id=OWNER, amount_picousd=2 * USD, source_id="more", memo="", actor_id="")
    usage_post([charge("r9", prompt=15_000_000, made=0)])
    assert Notice.objects.count() == 2
    first = notice_list_waiting()[0]
    assert notice_done(notice_id=first.id)
    assert not notice_done(notice_id=first.id)
    assert len(notice_list_waiting()) == 1


@pytest.mark.django_db
def test_nobody_is_warned_of_the_credit_that_they_start_with():
    credit_grant(owner_id=OWNER, amount_picousd=USD, source_id="gift", memo="", actor_id="")
    usage_post([charge("r0", prompt=1_000, made=0)])
    assert notice_list_waiting() == []
    usage_post([charge("r1", prompt=8_100_000, made=0)])
    (notice,) = notice_list_waiting()
    assert notice.data["threshold_picousd"] == str(USD // 5) == str(Terms(owner_id=OWNER).low_balance_picousd)


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"mode": "free"}, "terms_invalid"), ({"credit_limit_picousd": -1}, "amount_invalid"),
        ({"credit_limit_picousd": 10**19}, "amount_invalid"), ({"net_days": 1000}, "terms_invalid"),
        ({"tax_basis_points": 10_001}, "terms_invalid"), ({"colour": "red"}, "terms_invalid"),
        ({"bill_to": "x" * 1001}, "terms_invalid"),
    ],
)  # fmt: skip
def test_terms_that_cannot_be_are_refused(change: dict, code: str):
    with refused(code):
        terms_set(owner_id=OWNER, **change)
