"""What has to be settled before an organisation goes: each reason has a code, and a sentence that says what to do."""

from datetime import UTC, date, datetime, timedelta

import pytest

from kindling_billing.disputes import dispute_closed, dispute_opened
from kindling_billing.models import FailedRefund, Invoice, OutboxCall, Payment
from kindling_billing.payments import payment_open, payment_received
from kindling_billing.selectors import balance_get
from kindling_billing.services import UsageCharge, usage_post
from kindling_people import Customer
from kindling_platform.accounts.models import Organisation
from kindling_platform.accounts.suspension import organisation_suspend
from kindling_platform.audit.models import AuditEvent
from kindling_platform.common.clock import now
from kindling_platform.common.errors import KindlingError
from kindling_platform.departures.conditions import standing_get
from kindling_platform.departures.organisations import organisation_delete

pytestmark = pytest.mark.django_db
CENT = 10**10
LATER = datetime(2026, 3, 1, tzinfo=UTC)


def delete(owner: Customer, **changes) -> None:
    organisation_delete(org=owner.org, actor=owner.actor, **{"typed": owner.org.slug, **changes})


def refused(owner: Customer, **changes) -> tuple[str, int, str]:
    with pytest.raises(KindlingError) as caught:
        delete(owner, **changes)
    assert Organisation.objects.get(id=owner.org.id).deleting_at is None
    assert not AuditEvent.objects.filter(action="organisation.delete_begun").exists()
    return caught.value.code, caught.value.status, caught.value.message


def codes_of(owner: Customer) -> list[str]:
    return [one.code for one in standing_get(org=Organisation.objects.get(id=owner.org.id)).obstacles]


def bought(owner: Customer, cents: int = 2000) -> Payment:
    payment_received(intent_id="pi_1", owner_id=owner.org.id, amount_cents=cents)
    return Payment.objects.get(intent_id="pi_1")


def spend(owner: Customer, picousd: int, name: str = "one") -> None:
    usage_post([UsageCharge(owner_id=owner.org.id, request_id=name, cost_picousd=picousd)])


def test_the_operators_own_stays(operator: Customer):
    assert refused(operator)[:2] == ("operator_organisation", 409)


def test_a_suspended_one_stays(ada: Customer, operator: Customer):
    organisation_suspend(org=ada.org, reason="Fraud?", actor=operator.actor)
    assert refused(ada)[:2] == ("account_suspended", 412)


def test_an_invoice_has_to_be_paid(ada: Customer):
    invoice = Invoice.objects.create(
        owner_id=ada.org.id, month=date(2026, 1, 1), due_cents=1200, tax_cents=100, paid_cents=300, state="final",
        year=2026, number=7, issued_at=LATER, due_at=LATER,
    )  # fmt: skip
    code, status, said = refused(ada)
    assert (code, status) == ("invoice_open", 409) and "$10.00 of invoice 2026-000007" in said
    # One that the operator has given up is no hindrance.
    invoice.state = "uncollectible"
    invoice.save()
    assert codes_of(ada) == []


def test_a_debt_has_to_be_paid_to_the_cent(ada: Customer):
    left = balance_get(owner_id=ada.org.id).picousd
    spend(ada, left + CENT // 2)
    assert codes_of(ada) == []
    spend(ada, CENT, "two")
    code, _, said = refused(ada)
    assert code == "debt_open" and "$0.02 that was used" in said


def test_a_dispute_has_to_end(ada: Customer):
    bought(ada)
    dispute_opened(dispute_id="du_1", intent_id="pi_1", amount_cents=500)
    assert refused(ada, give_up_cents=10**6)[:2] == ("dispute_open", 409)
    dispute_closed(dispute_id="du_1", won=True)
    assert codes_of(ada) == []


def test_a_charge_of_the_card_has_to_end(ada: Customer):
    payment = payment_open(owner_id=ada.org.id, purpose="auto_topup", amount_cents=500)
    assert refused(ada)[:2] == ("charge_under_way", 409)
    Payment.objects.filter(id=payment.id).update(state="failed")
    # So is a page of the provider's, until nobody is likely to pay there any more.
    page = payment_open(owner_id=ada.org.id, purpose="topup", amount_cents=500)
    assert codes_of(ada) == ["charge_under_way"]
    Payment.objects.filter(id=page.id).update(created_at=now() - timedelta(minutes=61))
    assert codes_of(ada) == []


def test_a_refund_has_to_arrive(ada: Customer):
    payment = bought(ada)
    call = OutboxCall.objects.create(kind="refund", subject=f"{payment.id}:a", owner_id=ada.org.id)
    assert refused(ada, give_up_cents=2000)[:2] == ("refund_under_way", 409)
    OutboxCall.objects.filter(id=call.id).update(state="done")
    assert codes_of(ada) == []
    failed = FailedRefund.objects.create(id="re_1", payment=payment, amount_cents=500)
    assert codes_of(ada) == ["refund_under_way"]
    failed.state = FailedRefund.State.PAID
    failed.save()
    assert codes_of(ada) == []


def test_money_that_was_paid_in_is_given_up_to_the_cent(ada: Customer):
    # The dollar that everybody begins with is a gift, which nobody has to give up.
    assert standing_get(org=ada.org).paid_left_cents == 0
    bought(ada)
    spend(ada, 100 * CENT + 5 * CENT + CENT // 4)
    standing = standing_get(org=ada.org)
    assert (standing.paid_left_cents, standing.paid_left_usd) == (1995, "19.95")
    for given in (0, 1994):
        code, status, said = refused(ada, give_up_cents=given)
        assert (code, status) == ("balance_left", 409) and "$19.95 that was paid in is left" in said
    before = balance_get(owner_id=ada.org.id)
    delete(ada, give_up_cents=1995)
    # It stays in the books as it is: no money moves.
    assert balance_get(owner_id=ada.org.id) == before
    event = AuditEvent.objects.get(action="organisation.delete_begun")
    assert event.data["given_up_cents"] == "1995" and event.actor_id == ada.user.id


def test_every_reason_is_told_at_once(ada: Customer):
    bought(ada)
    dispute_opened(dispute_id="du_1", intent_id="pi_1", amount_cents=500)
    payment_open(owner_id=ada.org.id, purpose="auto_topup", amount_cents=500)
    with pytest.raises(KindlingError) as caught:
        delete(ada)
    assert [one["code"] for one in caught.value.details] == ["dispute_open", "charge_under_way"]
    assert all(one["message"].endswith(".") for one in caught.value.details)


def test_what_another_owes_is_nothing_to_it(ada: Customer, bob: Customer):
    bought(bob)
    dispute_opened(dispute_id="du_1", intent_id="pi_1", amount_cents=500)
    assert codes_of(ada) == [] and codes_of(bob) == ["dispute_open"]
    delete(ada)
    assert Organisation.objects.get(id=ada.org.id).deleting_at
