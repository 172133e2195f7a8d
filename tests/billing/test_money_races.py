"""Two at the same moment: one invoice, one credit, one expiry, and no usage between two months."""

import threading
import time
from collections.abc import Callable
from datetime import timedelta

import pytest
from django.db import connection, connections, transaction

from kindling_billing.collecting import invoice_write_off
from kindling_billing.credits import grants_expire
from kindling_billing.invoicing import invoice_finalise
from kindling_billing.models import CreditGrant, Invoice, LedgerTransaction, Payment, utc_now
from kindling_billing.payments import payment_open, payment_received, payment_refunded
from kindling_billing.proofs import books_prove
from kindling_billing.selectors import balance_get
from kindling_billing.services import credit_grant, usage_post
from kindling_billing.settlements import account_sum
from kindling_billing.terms import terms_set
from kindling_books_rig import CENT, MARCH, OWNER, USD, charge, moment

pytestmark = pytest.mark.django_db(transaction=True)


def together(*works: Callable[[], object]) -> list[BaseException]:
    """Run all at once; gives what went wrong."""
    troubles: list[BaseException] = []
    gate = threading.Barrier(len(works))

    def run(work: Callable[[], object]) -> None:
        try:
            gate.wait(60)
            work()
        except BaseException as error:
            troubles.append(error)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=run, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return troubles


def finalise(owner: str = OWNER) -> Invoice:
    return invoice_finalise(owner_id=owner, month=MARCH, now=moment(4, 10))


def test_workers_who_race_on_one_invoice_make_one():
    terms_set(owner_id=OWNER, mode="postpaid", tax_basis_points=1900)
    usage_post([charge("r1", prompt=10_000_000, made=0)])
    assert together(*[finalise] * 4) == []
    invoice = Invoice.objects.get()
    assert (invoice.number, invoice.total_cents, invoice.lines.count()) == (1, 119, 1)
    assert LedgerTransaction.objects.filter(source_type="invoice").count() == 1
    assert books_prove().sound


def test_numbers_stay_without_gaps_when_many_owners_end_their_month_at_once():
    owners = [f"org_{number}" for number in range(6)]
    for owner in owners:
        terms_set(owner_id=owner, mode="postpaid", tax_basis_points=700)
        usage_post([charge(f"{owner}-1", owner=owner, prompt=10_000_000)])
    assert together(*[lambda owner=owner: finalise(owner) for owner in owners]) == []
    assert sorted(Invoice.objects.values_list("number", flat=True)) == [1, 2, 3, 4, 5, 6]
    assert books_prove().sound


def test_usage_that_arrives_while_its_month_is_closed_is_on_one_of_the_two_invoices():
    usage_post([charge("first")])
    works = [lambda n=n: usage_post([charge(f"r{n}-{k}") for k in range(5)]) for n in range(4)]
    assert together(finalise, *works, finalise) == []
    march = Invoice.objects.get()
    april = invoice_finalise(owner_id=OWNER, month=moment(4).date().replace(day=1), now=moment(5, 10))
    assert int(march.exact_picousd) + int(april.exact_picousd) == 21 * charge("x").cost_picousd
    assert books_prove().sound


def test_an_intent_that_is_reported_by_four_at_once_credits_once():
    payment = payment_open(owner_id=OWNER, purpose="topup", amount_cents=500)
    booked: list[bool] = []

    def receive(payment_id: str) -> None:
        booked.append(
            payment_received(intent_id="pi_1", owner_id=OWNER, amount_cents=500, payment_id=payment_id)
        )

    assert together(*[lambda: receive(payment.id)] * 4) == []
    assert sorted(booked) == [False, False, False, True]

    def unasked() -> None:
        booked.append(payment_received(intent_id="pi_2", owner_id=OWNER, amount_cents=500))

    assert together(*[unasked] * 4) == []
    assert (sum(booked), Payment.objects.count()) == (2, 2)
    assert balance_get(owner_id=OWNER).picousd == 1000 * CENT
    assert books_prove().sound


def test_a_payment_that_comes_while_its_invoice_is_given_up_wins_the_loss_back():
    terms_set(owner_id=OWNER, mode="postpaid")
    usage_post([charge("r1", prompt=10_000_000, made=0)])
    invoice = finalise()
    payment = payment_open(owner_id=OWNER, purpose="invoice", amount_cents=100, invoice_id=invoice.id)

    def pay() -> None:
        payment_received(intent_id="pi_1", owner_id=OWNER, amount_cents=100, payment_id=payment.id)

    def waits() -> bool:
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_stat_clear_snapshot()")
            cursor.execute(
                "SELECT count(*) FROM pg_stat_activity"
                " WHERE datname = current_database() AND wait_event_type = 'Lock'"
            )
            return bool(cursor.fetchone()[0])

    troubles: list[BaseException] = []
    payer = threading.Thread(target=lambda: troubles.extend(together(pay)))
    with transaction.atomic():
        invoice_write_off(invoice_id=invoice.id, reason="Gone")
        payer.start()
        until = time.monotonic() + 60
        while not waits():
            assert time.monotonic() < until, "it did not wait"
    payer.join(60)
    assert troubles == []
    assert (account_sum("receivable"), account_sum("bad_debt")) == (0, 0)
    assert books_prove().sound


def test_spending_refunds_and_expiry_at_once_keep_every_portion_true():
    expires = utc_now() + timedelta(days=1)
    credit_grant(
        owner_id=OWNER, amount_picousd=3 * USD, source_id="gift", memo="", actor_id="", expires_at=expires
    )
    payment_received(intent_id="pi_1", owner_id=OWNER, amount_cents=500)
    works: list[Callable[[], object]] = [
        lambda n=n: usage_post([charge(f"r{n}-{k}", prompt=1_000_000, made=0) for k in range(4)])
        for n in range(3)
    ]
    works += [lambda: payment_refunded(refund_id="re_1", intent_id="pi_1", amount_cents=100)] * 2
    works += [lambda: grants_expire(now=expires + timedelta(hours=1))] * 2
    assert together(*works) == []
    assert CreditGrant.objects.get(source_id="gift").expired_at is not None
    assert LedgerTransaction.objects.filter(source_type="refund").count() == 1
    proof = books_prove()
    assert proof.findings == []
