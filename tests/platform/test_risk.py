"""Who is at risk, why, and in which order."""

from datetime import UTC, date, datetime, timedelta

import pytest

from kindling_billing.disputes import dispute_opened
from kindling_billing.gpu_hours import HeldPart
from kindling_billing.gpu_time import GpuCharge, gpu_time_post
from kindling_billing.models import AutoTopUp, Invoice, SavedCard
from kindling_billing.money import PICO_PER_USD
from kindling_billing.payments import payment_received
from kindling_billing.risk import expiry_of, invoice_ages, invoice_list_unpaid
from kindling_billing.terms import owner_suspend, terms_set
from kindling_people import Customer, make_customer
from kindling_platform.common.clock import now
from kindling_platform.usage.models import UsageSeries
from kindling_platform.usage.risk import RiskRow, risk_counts, risk_list

pytestmark = pytest.mark.django_db


@pytest.fixture
def customer() -> Customer:
    return make_customer()


def kinds(customer: Customer) -> list[str]:
    return [risk.kind for row in risk_list() if row.org == customer.org for risk in row.risks]


def row_of(customer: Customer) -> RiskRow:
    return next(row for row in risk_list() if row.org == customer.org)


def burn(customer: Customer, usd_per_day: float) -> None:
    """What they have used over the last seven days; the wallet stays."""
    UsageSeries.objects.create(
        organisation_id=customer.org.id, facet="all", step=now() - timedelta(days=2),
        cost_picousd=int(usd_per_day * 7 * PICO_PER_USD),
    )  # fmt: skip


def invoice(customer: Customer, *, days: int, number: int = 1, **fields: object) -> Invoice:
    given = {"due_cents": 1000, "state": "final", "year": 2026, "number": number} | fields
    month = date(2020 + number, 1, 1)
    return Invoice.objects.create(
        owner_id=customer.org.id, month=month, due_at=now() - timedelta(days=days), **given
    )


def test_nobody_is_at_risk_who_owes_nothing_and_spends_nothing(customer: Customer):
    assert kinds(customer) == []


def test_a_balance_that_runs_out_within_a_week(customer: Customer):
    burn(customer, 0.25)  # of the one dollar to begin with
    row = row_of(customer)
    assert (kinds(customer), row.days_left) == (["runs_out"], 4.0)
    assert "4.0 days" in row.risks[0].text
    AutoTopUp.objects.create(
        owner_id=customer.org.id, enabled=True, threshold_cents=1, amount_cents=500, monthly_cap_cents=500
    )
    assert kinds(customer) == []


def test_gpu_time_is_part_of_what_is_spent_a_day(customer: Customer):
    part = HeldPart("prc_a", 10, 7 * PICO_PER_USD // 100)
    charge = GpuCharge(customer.org.id, "1:a", "dep_a", "night-shift", now() - timedelta(days=2), (part,))
    assert gpu_time_post([charge]) == {"1:a"}
    row = row_of(customer)
    assert (kinds(customer), row.burn_picousd_per_day) == (["runs_out"], PICO_PER_USD // 10)


def test_a_low_balance_that_lasts(customer: Customer):
    burn(customer, 0.01)
    assert kinds(customer) == []
    terms_set(owner_id=customer.org.id, low_balance_picousd=5 * PICO_PER_USD)
    assert kinds(customer) == ["low"]


def test_overdue_invoices_with_their_reminder(customer: Customer):
    invoice(customer, days=-3)
    assert kinds(customer) == []
    invoice(customer, days=9, number=2, dunned=2, paid_cents=400)
    assert kinds(customer) == ["overdue"]
    row = row_of(customer)
    assert row.standing.open_cents == 1000 + 600
    assert row.risks[0].text == "1 invoice overdue, 9 days at most; reminder 2 of 3."


def test_unpaid_invoices_by_age(customer: Customer):
    for number, days in enumerate((-1, 0, 30, 31, 60, 61, 90, 91, 400), start=1):
        invoice(customer, days=days, number=number)
    ages = invoice_ages(invoice_list_unpaid(), now=now())
    assert [(age.label, age.invoices, age.open_cents) for age in ages] == [
        ("not due yet", 1, 1000),
        ("up to 30 days", 2, 2000),
        ("31 to 60 days", 2, 2000),
        ("61 to 90 days", 2, 2000),
        ("over 90 days", 2, 2000),
    ]


def test_a_stop_a_dispute_and_a_failed_top_up_come_first(customer: Customer):
    payment_received(intent_id="pi_1", owner_id=customer.org.id, amount_cents=2000)
    dispute_opened(dispute_id="du_1", intent_id="pi_1", amount_cents=2000)
    owner_suspend(owner_id=customer.org.id, reason="Unpaid.")
    AutoTopUp.objects.create(
        owner_id=customer.org.id, enabled=True, threshold_cents=1, amount_cents=500, monthly_cap_cents=500,
        paused_reason="Your card was declined.",
    )  # fmt: skip
    assert kinds(customer) == ["suspended", "dispute", "topup_failed"]
    assert row_of(customer).standing.disputed_cents == 2000
    assert all(risk.is_severe for risk in row_of(customer).risks)


def test_who_pays_by_invoice_and_nears_the_limit(customer: Customer):
    terms_set(owner_id=customer.org.id, mode="postpaid", credit_limit_picousd=PICO_PER_USD)
    burn(customer, 10)
    assert kinds(customer) == []  # the wallet's own dollar is there
    from kindling_billing.ledger import transaction_post

    transaction_post(
        source_type="usage", source_id="r", memo="",
        entries=[("wallet", customer.org.id, -int(1.85 * PICO_PER_USD)), ("revenue", "", int(1.85 * PICO_PER_USD))],
    )  # fmt: skip
    assert kinds(customer) == ["at_limit"]
    assert row_of(customer).risks[0].text == "85 % of the credit limit is used."


def test_cards_that_expire(customer: Customer):
    soon = now() + timedelta(days=5)
    card = SavedCard.objects.create(
        id="pm_1", owner_id=customer.org.id, brand="visa", last4="4242", exp_month=1, exp_year=2040, is_default=True
    )  # fmt: skip
    assert kinds(customer) == []
    SavedCard.objects.update(exp_month=soon.month, exp_year=soon.year - 1)
    assert "has expired" in row_of(customer).risks[0].text
    card.exp_month, card.exp_year = 12, 2031
    assert expiry_of(card) == datetime(2032, 1, 1, tzinfo=UTC)
    card.exp_month = 0
    assert expiry_of(card) is None


def test_one_kind_alone_and_the_number_of_each(customer: Customer):
    other = make_customer()
    burn(customer, 1)
    invoice(other, days=1)
    assert risk_counts(risk_list()) == {"runs_out": 1, "overdue": 1}
    assert [row.org for row in risk_list()] == [other.org, customer.org]
    assert [row.org for row in risk_list(kind="runs_out")] == [customer.org]
