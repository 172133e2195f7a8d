"""Every money action leaves a trace in the audit log: who, from where, what was there before and after."""

import ast
import importlib
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from django.db import transaction

from kindling_billing import charging, collecting, disputes, invoicing, payments, returns, terms
from kindling_billing.credits import grants_expire
from kindling_billing.models import Invoice, SavedCard, StripeCustomer
from kindling_billing.money import PICO_PER_USD
from kindling_billing.outbox.results import call_refused
from kindling_billing.outbox.writing import call_add
from kindling_billing.plans import plan_create
from kindling_billing.services import credit_grant
from kindling_billing.stripe_api.outcomes import ProviderRefused
from kindling_money_writers import ROOT, writing_functions
from kindling_people import Customer, make_customer, make_model, make_operator
from kindling_platform.accounts import decisions, paying
from kindling_platform.accounts import terms as agreed
from kindling_platform.accounts.credit import credit_give
from kindling_platform.audit.models import AuditEvent
from kindling_platform.audit.selectors import MONEY
from kindling_platform.catalog.services import model_price_publish
from kindling_platform.common.actors import Actor
from kindling_platform.common.origin import Origin, acting_as, origin_begun
from kindling_platform.keys.limits import limits_set
from kindling_platform.usage.rerating import rerating_start

pytestmark = pytest.mark.django_db
MONTH = date(2026, 1, 1)
LATER = datetime(2026, 3, 1, tzinfo=UTC)


@pytest.fixture
def customer() -> Customer:
    return make_customer()


def paid(owner: str, *, intent: str = "pi_1", cents: int = 2000) -> str:
    payments.payment_received(intent_id=intent, owner_id=owner, amount_cents=cents)
    return intent


def opened(owner: str) -> str:
    return payments.payment_open(owner_id=owner, purpose="topup", amount_cents=500).id


def refunded(owner: str) -> None:
    paid(owner)
    payments.payment_refunded(refund_id="re_1", intent_id="pi_1", amount_cents=500)


def contested(owner: str) -> None:
    paid(owner)
    disputes.dispute_opened(dispute_id="du_1", intent_id="pi_1", amount_cents=500)


def failed_refund(owner: str) -> None:
    refunded(owner)
    returns.refund_failed(refund_id="re_1", intent_id="pi_1", amount_cents=500, reason="card_gone")


def unpaid_invoice(owner: str, **fields: Any) -> Invoice:
    given = {
        "due_cents": 1200, "state": "final", "year": 2026, "number": 1, "issued_at": LATER, "due_at": LATER,
    } | fields  # fmt: skip
    return Invoice.objects.create(owner_id=owner, month=MONTH, **given)


def invoice_paid(owner: str) -> None:
    invoice = unpaid_invoice(owner)
    payments.payment_received(
        intent_id="pi_9", owner_id=owner, amount_cents=1200, purpose="invoice", invoice_id=invoice.id
    )


def with_card(owner: str) -> None:
    StripeCustomer.objects.create(owner_id=owner, customer_id="cus_1")
    SavedCard.objects.create(
        id="pm_1", owner_id=owner, brand="visa", last4="4242", exp_month=1, exp_year=2040, is_default=True
    )
    terms.auto_topup_set(
        owner_id=owner, enabled=True, threshold_cents=10**7, amount_cents=500, monthly_cap_cents=10**7
    )


def charged(owner: str) -> None:
    with_card(owner)
    assert charging.auto_topup_start(owner_id=owner, tax_cents=0)


def invoice_charged(owner: str) -> None:
    with_card(owner)
    assert charging.invoice_charge_start(invoice_id=unpaid_invoice(owner).id)


def paused(owner: str) -> None:
    with_card(owner)
    terms.auto_topup_pause(owner_id=owner, reason="Declined")


def refused_charge(owner: str) -> None:
    payment = opened(owner)
    call = call_add(kind="checkout", subject=payment, owner_id=owner, params={})
    call.lease_token = "t"
    call.save()
    call_refused(call_id=call.id, token="t", error=ProviderRefused("no", "No."))


def expired(owner: str) -> None:
    soon = datetime.now(UTC) + timedelta(hours=1)
    credit_grant(
        owner_id=owner, amount_picousd=5, source_id="gone", memo="Gift", actor_id="", expires_at=soon
    )
    assert grants_expire(now=soon + timedelta(hours=1)) == 1


def suspended(owner: str) -> None:
    terms.owner_suspend(owner_id=owner, reason="Unpaid")


# What billing does by itself, told to the audit log by billing: the action and something that does it.
TOLD: dict[str, tuple[str, Callable[[str], object]]] = {
    "payments.payment_received": ("payment.received", paid),
    "payments.payment_failed": (
        "payment.failed",
        lambda o: payments.payment_failed(payment_id=opened(o), code="no", message="No."),
    ),
    "payments.payment_refunded": ("refund.booked", refunded),
    "disputes.dispute_opened": ("dispute.opened", contested),
    "disputes.dispute_closed": (
        "dispute.closed",
        lambda o: (contested(o), disputes.dispute_closed(dispute_id="du_1", won=True)),
    ),
    "returns.refund_failed": ("refund.failed", failed_refund),
    "collecting.invoice_settle": ("invoice.settled", invoice_paid),
    "collecting.invoice_write_off": (
        "invoice.written_off",
        lambda o: collecting.invoice_write_off(invoice_id=unpaid_invoice(o).id, reason="Bankrupt"),
    ),
    "collecting.dunning_run": (
        "invoice.dunned",
        lambda o: (unpaid_invoice(o), collecting.dunning_run(now=LATER + timedelta(hours=1))),
    ),
    "invoicing.invoice_finalise": (
        "invoice.finalised",
        lambda o: invoicing.invoice_finalise(owner_id=o, month=MONTH, now=LATER),
    ),
    "terms.owner_suspend": ("owner.suspended", suspended),
    "terms.owner_resume": ("owner.resumed", lambda o: (suspended(o), terms.owner_resume(owner_id=o))),
    "terms.auto_topup_pause": ("auto_topup.paused", paused),
    "charging.auto_topup_start": ("auto_topup.charged", charged),
    "charging.invoice_charge_start": ("invoice.charged", invoice_charged),
    "credits.grants_expire": ("credit.expired", expired),
    "outbox.results.call_refused": ("payment.failed", refused_charge),
}

# What a person does: billing's function, the only modules above billing that may call it, the action, and a doing.
DONE: dict[str, tuple[set[str], str, Callable[[Customer, Customer], object]]] = {
    "services.credit_grant": (
        {"accounts.credit"}, "credit.granted",
        lambda c, op: credit_give(
            org=c.org, amount_picousd=PICO_PER_USD, source_id="gift", memo="Sorry", actor=op.actor
        ),
    ),
    "services.price_publish": (
        {"catalog.services", "catalog.prices"}, "price.published",
        lambda c, op: model_price_publish(
            model=make_model(op), input_picousd=1, cached_input_picousd=1, output_picousd=1, actor=op.actor
        ),
    ),
    "plans.plan_create": (
        {"accounts.terms"}, "plan.created", lambda c, op: agreed.price_plan_make(name="Gold", actor=op.actor),
    ),
    "plans.plan_assign": (
        {"accounts.terms"}, "plan.assigned",
        lambda c, op: agreed.price_plan_assign(org=c.org, plan_id=plan_create(name="Gold").id, actor=op.actor),
    ),
    "terms.terms_set": (
        {"accounts.terms", "accounts.paying"}, "terms.changed",
        lambda c, op: agreed.payment_terms_set(org=c.org, actor=op.actor, net_days=30),
    ),
    "comparing.reports.difference_accept": ({"accounts.decisions"}, "difference.accepted", lambda c, op: differ(op)),
    "returns.refund_credit": (
        {"accounts.decisions"}, "refund.credited",
        lambda c, op: (failed_refund(c.org.id), decisions.failed_refund_credit(refund_id="re_1", actor=op.actor)),
    ),
    "returns.refund_paid_otherwise": (
        {"accounts.decisions"}, "refund.paid_otherwise",
        lambda c, op: (
            failed_refund(c.org.id), decisions.failed_refund_pay(refund_id="re_1", note="SEPA 1", actor=op.actor),
        ),
    ),
    "webhooks.receiving.event_close": (
        {"accounts.decisions"}, "payment_event.closed", lambda c, op: close_event(op),
    ),
    "outbox.deciding.call_close": (
        {"accounts.decisions"}, "payment_request.closed", lambda c, op: close_request(c, op),
    ),
}  # fmt: skip

# Shown to be audited where they are tested with a provider: tests of paying and of the operator's pages.
WITH_PROVIDER = {
    "charging.checkout_start": {"accounts.paying"},
    "charging.invoice_page_start": {"accounts.paying"},
    "refunding.refund_start": {"accounts.treasury"},
    "saved_cards.card_forget": {"accounts.paying"},
    "saved_cards.card_prefer": {"accounts.paying"},
    "terms.auto_topup_set": {"accounts.paying"},
    "outbox.deciding.call_retry": {"accounts.decisions"},
    "webhooks.receiving.event_retry": {"accounts.treasury"},
    "costs.hour_cost_set": {"deployments.costs"},
    "costs.hosted_price_set": {"deployments.costs"},
}

# What is no action of its own, and why.
TRACES = {
    "charging.customer_call": "a name at the provider, no money",
    "comparing.days.day_compare": "an observation",
    "comparing.days.days_compare": "an observation",
    "comparing.reports.contact_note": "an observation",
    "gpu_time.gpu_time_post": "its trace is the row of the hour and the ledger",
    "invoicing.invoice_draft": "figures of a draft, which nobody owes",
    "ledger.accounts_lock": "the ledger itself",
    "ledger.postings_post": "the ledger itself",
    "ledger.transaction_post": "the ledger itself",
    "notices.notice_add": "a letter about what is told",
    "notices.notice_done": "a letter about what is told",
    "notices.notice_not_taken": "a letter about what is told",
    "notices.notice_again": "a letter about what is told; whoever asks for it is told of",
    "notices.low_balance_note": "a letter",
    "outbox.writing.call_add": "the request of an action that is told",
    "outbox.sending.call_send": "the sending of an action that is told",
    "outbox.results.call_answered": "its effects tell",
    "payment_calls.card_call": "the request of an action that is told",
    "payment_calls.page_call": "the request of an action that is told",
    "payments.payment_open": "the beginning of an action that is told",
    "proofs.books_prove": "an observation",
    "settlements.settlement_received": "the provider's own books; its trace is the ledger and the comparison",
    "settlements.payout_received": "the provider's own books; its trace is the ledger",
    "topup.auto_topup_hold": "the pause that follows tells",
    "totals.totals_add": "follows from the ledger",
    "usage.usage_post": "its trace is the usage event and the ledger",
    "usage.usage_correct": "rerating_start tells; its trace is the ledger",
    "usage.usage_waive": "its trace is the ledger",
    "wallet.wallet_post": "the ledger itself",
    "wallet.wallets_post": "the ledger itself",
    "wallet.portions_settle": "follows from the ledger",
    "webhooks.cards.customer_known": "a name at the provider, no money",
    "webhooks.cards.customer_gone": "cards at the provider; the pause that follows tells",
    "webhooks.cards.card_apply": "a card at the provider, no money",
    "webhooks.cards.card_gone": "a card at the provider; the pause that follows tells",
    "webhooks.effects.dispute_apply": "its effects tell",
    "webhooks.effects.intent_apply": "its effects tell",
    "webhooks.effects.refund_apply": "its effects tell",
    "webhooks.effects.session_expired": "its effects tell",
    "webhooks.facts.facts_apply": "its effects tell",
    "webhooks.receiving.event_take": "its effects tell",
    "webhooks.receiving.webhook_receive": "its effects tell",
    "webhooks.reconciling.reconcile": "an observation; what it books tells",
    "webhooks.reconciling.events_catch_up": "its effects tell",
    "webhooks.reconciling.movements_book": "the provider's own books",
}


def differ(operator: Customer) -> None:
    from kindling_billing.models import ComparedMovement

    ComparedMovement.objects.create(
        id="ch_1", day=MONTH, kind="charge", happened_at=LATER, verdict="differs", cause="made_elsewhere"
    )
    decisions.difference_settle(movement_id="ch_1", note="A donation", actor=operator.actor)


def close_event(operator: Customer) -> None:
    from kindling_billing.models import StripeEvent

    StripeEvent.objects.create(id="evt_1", type="x", state="parked", happened_at=LATER)
    decisions.event_put_aside(event_id="evt_1", note="Mended", actor=operator.actor)


def close_request(customer: Customer, operator: Customer) -> None:
    call = call_add(kind="refund", subject="x:1", owner_id=customer.org.id, params={"amount": 1})
    call.state = "stuck"
    call.save()
    decisions.request_put_aside(call_id=call.id, note="Paid by hand", actor=operator.actor)


@pytest.fixture
def operator() -> Iterator[Customer]:
    yield make_operator()


def test_every_function_that_writes_money_is_told_or_named_with_a_reason():
    assert writing_functions() == TOLD.keys() | DONE.keys() | WITH_PROVIDER.keys() | TRACES.keys()


@pytest.mark.parametrize("name", TOLD)
def test_what_billing_does_by_itself_is_written_down_with_it(customer: Customer, name: str):
    action, work = TOLD[name]
    with acting_as(Actor(id="", label="payment provider", ip="192.0.2.7")):
        work(customer.org.id)
    event = AuditEvent.objects.filter(action=action).latest("created_at")
    assert event.organisation_id == customer.org.id
    assert (event.actor_label, event.ip) == ("payment provider", "192.0.2.7")
    assert event.data["after"] and event.data["after"] != event.data.get("before")


@pytest.mark.parametrize("name", DONE)
def test_what_a_person_does_is_written_down_with_their_name(
    customer: Customer, operator: Customer, name: str
):
    _, action, work = DONE[name]
    with origin_begun(Origin("req_of_the_test")):
        work(customer, operator)
    event = AuditEvent.objects.filter(action=action).latest("created_at")
    assert (event.actor_label, event.request_id) == (operator.user.email, "req_of_the_test")
    assert event.data


def test_nobody_above_billing_goes_past_the_audited_services():
    allowed = {name: modules for name, (modules, _, _) in DONE.items()} | WITH_PROVIDER
    platform = ROOT.parents[1]
    for folder in ("platform/kindling_platform", "console/kindling_console", "workers/kindling_workers"):
        base = platform / folder
        for path in base.rglob("*.py"):
            module = ".".join(path.relative_to(base).with_suffix("").parts)
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("kindling_billing."):
                    for one in node.names:
                        name = f"{(node.module or '').removeprefix('kindling_billing.')}.{one.name}"
                        assert module in allowed.get(name, {module}), f"{folder}/{module} calls {name}"


def test_what_is_undone_leaves_no_trace(customer: Customer):
    with pytest.raises(RuntimeError), transaction.atomic():
        paid(customer.org.id)
        raise RuntimeError
    assert not AuditEvent.objects.filter(action="payment.received").exists()


def test_limits_budgets_details_and_rating_anew_say_what_was_there_before(
    customer: Customer, operator: Customer
):
    limits_set(org=customer.org, values={"budget_month_picousd": 5}, actor=customer.actor)
    limits_set(org=customer.org, values={"budget_month_picousd": 7}, actor=customer.actor)
    paying.billing_details_set(org=customer.org, tax_id="DE1", actor=customer.actor)
    rerating_start(
        sku=make_model(operator).id,
        start=LATER,
        end=LATER + timedelta(days=1),
        reason="Wrong",
        actor=operator.actor,
    )
    said = {event.action: event.data for event in AuditEvent.objects.order_by("created_at", "id")}
    assert said["limits.set"] == {
        "before": {"budget_month_picousd": "5"}, "after": {"budget_month_picousd": "7"},
    }  # fmt: skip
    assert said["billing.details_set"] == {"before": {"tax_id": ""}, "after": {"tax_id": "DE1"}}
    assert said["usage.rerated"]["reason"] == "Wrong"


def test_every_action_of_money_is_found_by_that_filter():
    actions = [action for action, _ in TOLD.values()] + [action for _, action, _ in DONE.values()]
    assert {action.partition(".")[0] for action in actions} <= set(MONEY)


def test_every_named_function_is_there():
    for name in TOLD | DONE | WITH_PROVIDER | TRACES:
        module, _, function = name.rpartition(".")
        assert callable(getattr(importlib.import_module(f"kindling_billing.{module}"), function))
