"""Payments, refunds and disputes: each cause once, no wrong balance, and a clearing account that returns to zero."""

import pytest

from kindling_billing.disputes import dispute_closed, dispute_opened
from kindling_billing.models import CreditGrant, Payment
from kindling_billing.payments import payment_failed, payment_open, payment_received, payment_refunded
from kindling_billing.selectors import balance_get, drift_list, ledger_sum
from kindling_billing.services import UsageCharge, credit_grant, usage_post
from kindling_billing.settlements import account_sum, payout_received, settlement_received
from kindling_books_rig import CENT, refused

pytestmark = pytest.mark.django_db


def pay(intent: str = "pi_1", cents: int = 2000, tax: int = 400, **more) -> bool:
    return payment_received(intent_id=intent, owner_id="org_a", amount_cents=cents, tax_cents=tax, **more)


def wallet() -> int:
    return balance_get(owner_id="org_a").picousd // CENT


def portions() -> list[tuple[str, int]]:
    rows = CreditGrant.objects.filter(owner_id="org_a").order_by("created_at", "id")
    return [(row.kind, int(row.remaining_picousd) // CENT) for row in rows]


def test_an_intent_credits_its_net_amount_once():
    assert pay()
    assert not pay()
    assert wallet() == 2000
    assert account_sum("tax") == 400 * CENT
    assert account_sum("stripe_clearing") == -2400 * CENT
    assert (ledger_sum(), drift_list()) == (0, [])


def test_an_opened_payment_ends_once_and_may_succeed_after_it_failed():
    payment = payment_open(owner_id="org_a", purpose="topup", amount_cents=2000, tax_cents=400)
    assert payment_failed(payment_id=payment.id, code="card_declined", message="Declined.")
    assert not payment_failed(payment_id=payment.id, code="card_declined", message="Declined.")
    assert pay(payment_id=payment.id)
    assert not payment_failed(payment_id=payment.id, code="late", message="")
    payment.refresh_from_db()
    assert (payment.state, payment.intent_id, payment.failure) == ("succeeded", "pi_1", "")


def test_the_books_take_the_amount_that_was_charged():
    payment = payment_open(owner_id="org_a", purpose="topup", amount_cents=2000)
    assert pay(cents=1900, tax=0, payment_id=payment.id)
    payment.refresh_from_db()
    assert (wallet(), payment.amount_cents) == (1900, 1900)


def test_one_automatic_top_up_is_open_at_a_time():
    payment = payment_open(owner_id="org_a", purpose="auto_topup", amount_cents=500)
    with refused("payment_open"):
        payment_open(owner_id="org_a", purpose="auto_topup", amount_cents=500)
    payment_failed(payment_id=payment.id, code="authentication_required", message="")
    assert payment_open(owner_id="org_a", purpose="auto_topup", amount_cents=500)


@pytest.mark.parametrize("cents", [0, -1, 10**18, True, 1.5])
def test_impossible_amounts_are_refused_everywhere(cents):
    pay()
    calls = [
        lambda: payment_open(owner_id="org_a", purpose="topup", amount_cents=cents),
        lambda: pay("pi_2", cents),
        lambda: payment_refunded(refund_id="re_1", intent_id="pi_1", amount_cents=cents),
        lambda: dispute_opened(dispute_id="dp_1", intent_id="pi_1", amount_cents=cents),
    ]
    for call in calls:
        with refused("amount_invalid"):
            call()
    assert wallet() == 2000
    assert Payment.objects.count() == 1


def test_another_currency_is_refused():
    with refused("currency_unsupported"):
        pay(currency="eur")
    with refused("currency_unsupported"):
        settlement_received(settlement_id="txn_1", amount_cents=5, currency="eur")
    assert Payment.objects.count() == 0


def test_an_intent_is_not_credited_to_somebody_else():
    payment = payment_open(owner_id="org_b", purpose="topup", amount_cents=2000)
    with refused("payment_mismatch"):
        pay(payment_id=payment.id)
    with refused("payment_unknown"):
        pay(payment_id="pay_nowhere")


def test_refunds_leave_the_wallet_with_their_part_of_the_tax_and_only_once():
    pay(cents=1000, tax=101)
    for number in range(1, 4):
        assert payment_refunded(refund_id=f"re_{number}", intent_id="pi_1", amount_cents=367)
        assert not payment_refunded(refund_id=f"re_{number}", intent_id="pi_1", amount_cents=367)
    assert wallet() == 0
    assert account_sum("tax") == 0
    assert account_sum("stripe_clearing") == 0
    with refused("refund_too_large"):
        payment_refunded(refund_id="re_4", intent_id="pi_1", amount_cents=1)


def test_a_refund_takes_the_credit_it_bought_and_may_leave_less_than_nothing():
    credit_grant(owner_id="org_a", amount_picousd=500 * CENT, source_id="gift", memo="", actor_id="")
    pay(tax=0)
    payment_refunded(refund_id="re_1", intent_id="pi_1", amount_cents=1500)
    assert portions() == [("promo", 500), ("paid", 500)]
    usage_post([UsageCharge("org_a", "r1", 800 * CENT)])
    assert portions() == [("promo", 0), ("paid", 200)]
    payment_refunded(refund_id="re_2", intent_id="pi_1", amount_cents=500)
    assert (wallet(), portions()) == (-300, [("promo", 0), ("paid", 0)])


def test_refunds_and_disputes_wait_for_their_payment():
    with refused("payment_unknown"):
        payment_refunded(refund_id="re_1", intent_id="pi_1", amount_cents=5)
    with refused("payment_unknown"):
        dispute_opened(dispute_id="dp_1", intent_id="pi_1", amount_cents=5)
    with refused("dispute_unknown"):
        dispute_closed(dispute_id="dp_1", won=True)


@pytest.mark.parametrize(("won", "left"), [(True, 2000), (False, 0)])
def test_a_dispute_freezes_and_the_provider_s_report_clears_it(won: bool, left: int):
    pay()
    settlement_received(settlement_id="txn_1", amount_cents=2400, fee_cents=100)
    assert dispute_opened(dispute_id="dp_1", intent_id="pi_1", amount_cents=2400)
    assert not dispute_opened(dispute_id="dp_1", intent_id="pi_1", amount_cents=2400)
    assert (wallet(), account_sum("disputed") // CENT) == (0, 2000)
    settlement_received(settlement_id="txn_2", amount_cents=-2400, fee_cents=1500)
    assert account_sum("stripe_clearing") == 0
    assert dispute_closed(dispute_id="dp_1", won=won)
    assert not dispute_closed(dispute_id="dp_1", won=not won)
    if won:
        settlement_received(settlement_id="txn_3", amount_cents=2400)
    assert (wallet(), account_sum("disputed"), account_sum("stripe_clearing")) == (left, 0, 0)
    assert account_sum("tax") == (400 * CENT if won else 0)
    assert account_sum("dispute_claim") == 0
    assert (ledger_sum(), drift_list()) == (0, [])


def test_settlements_and_payouts_keep_the_provider_s_balance():
    pay()
    assert settlement_received(settlement_id="txn_1", amount_cents=2400, fee_cents=100)
    assert not settlement_received(settlement_id="txn_1", amount_cents=2400, fee_cents=100)
    assert (account_sum("stripe_clearing"), account_sum("stripe_balance")) == (0, -2300 * CENT)
    assert payout_received(payout_id="po_1", amount_cents=2300)
    assert not payout_received(payout_id="po_1", amount_cents=2300)
    assert account_sum("stripe_balance") == 0
    for cents in (0, 10**18):
        with refused("amount_invalid"):
            settlement_received(settlement_id="txn_2", amount_cents=cents)
