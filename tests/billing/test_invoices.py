"""Invoices: exact lines rounded once, gapless numbers, nothing between two of them, nothing changed in a final one."""

from datetime import timedelta

import pytest
from django.db import DatabaseError, transaction
from hypothesis import given
from hypothesis import strategies as st

from kindling_billing.collecting import STAGES, dunning_run, invoice_write_off
from kindling_billing.disputes import dispute_closed, dispute_opened
from kindling_billing.figures import covered_of, figures_of
from kindling_billing.invoicing import invoice_draft, invoice_finalise, month_list_due
from kindling_billing.models import Invoice, InvoiceLine, Notice, Terms, UsageTotal
from kindling_billing.money import cents_to_pico
from kindling_billing.payments import payment_received, payment_refunded
from kindling_billing.rating import Price
from kindling_billing.selectors import balance_get, drift_list, ledger_sum, spendable_map
from kindling_billing.services import Correction, credit_grant, usage_correct, usage_post
from kindling_billing.settlements import account_sum
from kindling_billing.terms import terms_get, terms_set
from kindling_books_rig import APRIL, CENT, MARCH, MAY, OWNER, USD, charge, moment, refused

pytestmark = pytest.mark.django_db
AFTER = moment(4, 10)


@pytest.fixture
def postpaid(db: None) -> None:
    terms_set(owner_id=OWNER, mode="postpaid", credit_limit_picousd=50 * USD, tax_basis_points=1900)


def finalise(month=MARCH, now=AFTER) -> Invoice:
    return invoice_finalise(owner_id=OWNER, month=month, now=now)


def wallet() -> int:
    return balance_get(owner_id=OWNER).picousd


def test_a_prepaid_month_owes_nothing_and_its_lines_are_the_usage():
    credit_grant(owner_id=OWNER, amount_picousd=USD, source_id="gift", memo="", actor_id="")
    charges = [charge(f"r{n}", prompt=n, cached=n // 2, made=3 * n) for n in range(1, 40)]
    usage_post(charges)
    invoice = finalise()
    lines = list(invoice.lines.all())
    assert sum(int(line.amount_picousd) for line in lines) == sum(one.cost_picousd for one in charges)
    assert {line.unit for line in lines} == {"prompt", "cached", "output"}
    assert (invoice.state, invoice.total_cents, invoice.name) == ("paid", 0, "2026-000001")
    assert wallet() == USD - int(invoice.exact_picousd)


def test_a_postpaid_month_moves_its_debt_to_the_receivables_rounded_once(postpaid: None):
    usage_post([charge("r1", prompt=123_457, made=0), charge("r2", prompt=0, made=54_321)])
    usage_post([charge("april", at=moment(4, 2))])
    exact = 123_457 * 100_000 + 54_321 * 400_000
    invoice = finalise()
    assert [line.amount_cents for line in invoice.lines.order_by("unit")] == [2, 1]
    assert (int(invoice.exact_picousd), invoice.due_cents, invoice.tax_cents) == (exact, 3, 1)
    assert account_sum("rounding") == 3 * CENT - exact
    assert account_sum("receivable") == -4 * CENT
    assert wallet() == -charge("april").cost_picousd
    assert (ledger_sum(), drift_list()) == (0, [])


def test_credit_pays_first_and_only_the_rest_is_due(postpaid: None):
    credit_grant(owner_id=OWNER, amount_picousd=3 * USD, source_id="gift", memo="", actor_id="")
    usage_post(
        [charge("r1", prompt=50_000_000, made=0), charge("r2", at=moment(4, 2), prompt=20_000_000, made=0)]
    )
    invoice = finalise()
    assert (int(invoice.covered_picousd), invoice.due_cents, invoice.subtotal_cents) == (3 * USD, 200, 500)
    assert wallet() == -2 * USD


def test_a_debt_outlives_the_change_to_paying_before_use(postpaid: None):
    usage_post(
        [charge("r1", prompt=20_000_000, made=0), charge("r2", at=moment(4, 2), prompt=10_000_000, made=0)]
    )
    terms_set(owner_id=OWNER, mode="prepaid")
    invoice = finalise()
    assert (invoice.state, invoice.due_cents, invoice.tax_cents) == ("final", 200, 38)
    assert wallet() == -USD
    invoice = finalise(month=APRIL, now=moment(5, 10))
    assert (invoice.due_cents, wallet()) == (100, 0)
    Terms.objects.update(postpaid_until=moment(4, 30))
    usage_post([charge("r3", at=moment(5, 2), prompt=10_000_000, made=0)])
    invoice = finalise(month=MAY, now=moment(6, 10))
    assert (invoice.state, invoice.due_cents, wallet()) == ("paid", 0, -USD)


def test_numbers_have_no_gaps_and_a_repeat_makes_nothing():
    for owner in ("org_a", "org_b", "org_c"):
        usage_post([charge(f"{owner}-1", owner=owner)])
    made = [invoice_finalise(owner_id=owner, month=MARCH, now=AFTER) for owner in ("org_a", "org_b")]
    with pytest.raises(RuntimeError), transaction.atomic():
        invoice_finalise(owner_id="org_c", month=MARCH, now=AFTER)
        raise RuntimeError("killed before the commit")
    made.append(invoice_finalise(owner_id="org_c", month=MARCH, now=AFTER))
    assert [invoice.number for invoice in made] == [1, 2, 3]
    assert finalise().number == 1
    assert Invoice.objects.count() == 3


def test_a_month_waits_for_its_late_events():
    usage_post([charge("r1")])
    with refused("month_open"):
        finalise(now=moment(4, 2))
    assert invoice_draft(owner_id=OWNER, month=MARCH).exact_picousd == charge("r1").cost_picousd
    usage_post([charge("r2", at=moment(3, 31, 23))])
    assert invoice_draft(owner_id=OWNER, month=MARCH).exact_picousd == 2 * charge("r1").cost_picousd
    assert month_list_due(now=moment(4, 2)) == []
    assert month_list_due(now=AFTER) == [(OWNER, MARCH)]
    assert finalise().lines.count() == 2
    assert month_list_due(now=AFTER) == []


def test_what_comes_after_the_final_invoice_goes_on_the_next_one():
    usage_post([charge("r1")])
    finalise()
    usage_post([charge("late", at=moment(3, 31))])
    total = UsageTotal.objects.filter(billed_month=APRIL).first()
    assert total and total.used_month == MARCH
    april = finalise(APRIL, moment(5, 10))
    assert {line.used_month for line in april.lines.all()} == {MARCH}
    assert april.exact_picousd == charge("late").cost_picousd
    with refused("month_closed"):
        invoice_finalise(owner_id=OWNER, month=MARCH.replace(month=2), now=AFTER)
    with refused("month_invalid"):
        finalise(MARCH.replace(day=2))


def test_rating_anew_reverses_and_the_difference_is_on_the_next_invoice(postpaid: None):
    before = charge("r1", prompt=10_000_000, made=0)
    usage_post([before])
    march = finalise()
    after = charge("r1", prompt=10_000_000, made=0, price=Price(60_000, 1, 1))
    assert usage_correct([Correction(before, after, 2)]) == 1
    assert usage_correct([Correction(before, after, 2)]) == 0
    april = finalise(APRIL, moment(5, 10))
    assert [int(line.amount_picousd) for line in april.lines.all()] == [60 * CENT, -100 * CENT]
    assert (april.state, april.total_cents, int(april.exact_picousd)) == ("paid", 0, -40 * CENT)
    assert wallet() == 40 * CENT
    usage_post([charge("may", at=moment(5, 3), prompt=10_000_000, made=0)])
    may = finalise(MAY, moment(6, 10))
    assert (may.due_cents, int(may.covered_picousd)) == (60, 40 * CENT)
    march.refresh_from_db()
    assert march.due_cents == 100
    assert (ledger_sum(), drift_list()) == (0, [])


def test_a_final_invoice_and_its_lines_never_change():
    usage_post([charge("r1")])
    invoice = finalise()
    for change in (
        lambda: Invoice.objects.filter(id=invoice.id).update(due_cents=7),
        lambda: Invoice.objects.filter(id=invoice.id).update(state="draft", number=None),
        lambda: InvoiceLine.objects.filter(invoice=invoice).update(amount_cents=7),
        lambda: InvoiceLine.objects.filter(invoice=invoice)._raw_delete("default"),
        lambda: Invoice.objects.filter(id=invoice.id)._raw_delete("default"),
    ):
        with pytest.raises(DatabaseError), transaction.atomic():
            change()


def test_a_paid_invoice_is_closed_a_contested_one_is_owed_again(postpaid: None):
    usage_post([charge("r1", prompt=10_000_000, made=0)])
    invoice = finalise()
    assert invoice.total_cents == 119
    paid = {"owner_id": OWNER, "purpose": "invoice", "invoice_id": invoice.id}
    payment_received(intent_id="pi_1", amount_cents=50, **paid)
    invoice.refresh_from_db()
    assert (invoice.state, invoice.paid_cents) == ("final", 50)
    payment_received(intent_id="pi_2", amount_cents=69, **paid)
    invoice.refresh_from_db()
    assert (invoice.state, account_sum("receivable")) == ("paid", 0)
    dispute_opened(dispute_id="dp_1", intent_id="pi_2", amount_cents=69)
    invoice.refresh_from_db()
    assert (invoice.state, account_sum("receivable")) == ("final", -69 * CENT)
    dispute_closed(dispute_id="dp_1", won=True)
    invoice.refresh_from_db()
    assert (invoice.state, account_sum("receivable")) == ("paid", 0)
    payment_refunded(refund_id="re_1", intent_id="pi_1", amount_cents=50)
    assert (account_sum("adjustment"), account_sum("receivable")) == (-50 * CENT, 0)
    assert (ledger_sum(), drift_list()) == (0, [])


def test_unpaid_invoices_are_chased_then_inference_stops_until_they_are_paid(postpaid: None):
    usage_post([charge("r1", prompt=10_000_000, made=0)])
    invoice = finalise()
    due = invoice.due_at
    assert due is not None
    assert dunning_run(now=due - timedelta(seconds=1)) == 0
    # The clock jumps a year ahead: still one step at a time, days apart.
    far = due + timedelta(days=365)
    assert [dunning_run(now=far), dunning_run(now=far)] == [1, 0]
    assert terms_get(owner_id=OWNER).suspended_at is None
    for step in range(1, len(STAGES)):
        assert dunning_run(now=far + timedelta(days=3 * step)) == 1
    assert dunning_run(now=far + timedelta(days=99)) == 0
    assert invoice.name in terms_get(owner_id=OWNER).suspended_reason
    assert spendable_map(owner_ids=[OWNER])[OWNER].picousd <= 0
    kinds = list(Notice.objects.order_by("id").values_list("kind", flat=True))
    assert kinds == [
        "invoice.issued",
        "invoice.due",
        "invoice.overdue",
        "invoice.last_call",
        "owner.suspended",
    ]
    payment_received(
        intent_id="pi_1", owner_id=OWNER, amount_cents=119, purpose="invoice", invoice_id=invoice.id
    )
    assert terms_get(owner_id=OWNER).suspended_at is None
    assert spendable_map(owner_ids=[OWNER])[OWNER].picousd == 50 * USD


def test_an_invoice_that_is_given_up_is_a_loss_and_a_late_payment_wins_it_back(postpaid: None):
    usage_post([charge("r1", prompt=10_000_000, made=0)])
    invoice = finalise()
    assert invoice_write_off(invoice_id=invoice.id, reason="Bankrupt").state == "uncollectible"
    assert invoice_write_off(invoice_id=invoice.id, reason="Bankrupt").state == "uncollectible"
    assert (account_sum("receivable"), account_sum("bad_debt")) == (0, -119 * CENT)
    payment_received(
        intent_id="pi_1", owner_id=OWNER, amount_cents=119, purpose="invoice", invoice_id=invoice.id
    )
    assert (account_sum("receivable"), account_sum("bad_debt"), ledger_sum()) == (0, 0, 0)
    with refused("invoice_unknown"):
        invoice_write_off(invoice_id="inv_none", reason="")


def test_what_may_be_spent_counts_the_limit_and_what_is_owed(postpaid: None):
    before = spendable_map(owner_ids=[OWNER])[OWNER]
    assert before.picousd == 50 * USD
    usage_post([charge("r1", prompt=100_000_000, made=0)])
    assert spendable_map(owner_ids=[OWNER])[OWNER].picousd == 40 * USD
    finalise()
    after = spendable_map(owner_ids=[OWNER])[OWNER]
    assert (after.picousd, after.version > before.version) == (50 * USD - 1190 * CENT, True)
    terms_set(owner_id=OWNER, credit_limit_picousd=0)
    lowered = spendable_map(owner_ids=[OWNER])[OWNER]
    assert (lowered.picousd, lowered.version > after.version) == (-1190 * CENT, True)


AMOUNTS = st.lists(st.integers(-(10**14), 10**14), max_size=20)


@given(AMOUNTS, st.integers(0, 10**14), st.integers(0, 3000))
def test_what_is_due_is_the_exact_cost_and_the_rounding(amounts: list[int], credit: int, tax: int):
    exact = sum(amounts)
    covered = covered_of(exact_picousd=exact, later_picousd=0, wallet_picousd=credit - exact)
    figures = figures_of(amounts, covered_picousd=covered, tax_basis_points=tax)
    due = exact - covered
    assert due >= 0
    assert cents_to_pico(figures.due_cents) - figures.rounding_picousd == (due if due > 0 else 0)
    assert abs(figures.rounding_picousd) <= (len(amounts) + 1) * CENT
