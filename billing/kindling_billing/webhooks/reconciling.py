"""Compares the provider's books with ours, books what was never told, and says what does not agree.

Three ways lead to the same numbers: what was asked (outbox and payments), what customers were credited (the ledger),
and what the provider moved (its balance). Clearing is zero when all three agree.
"""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from django.db import transaction

from kindling_billing.amounts import CURRENCY
from kindling_billing.errors import BillingError
from kindling_billing.models import OutboxCall, Payment, ProviderMark, Reconciliation, StripeEvent, utc_now
from kindling_billing.money import PICO_PER_CENT
from kindling_billing.notices import notice_add
from kindling_billing.payments import payment_failed
from kindling_billing.settlements import account_sum, payout_received, settlement_received
from kindling_billing.steps import step
from kindling_billing.stripe_api import reading
from kindling_billing.stripe_api.client import StripeApi
from kindling_billing.stripe_api.outcomes import ProviderRefused
from kindling_billing.webhooks.effects import CALLS_OF_PAYMENTS, PAYMENT, is_ours
from kindling_billing.webhooks.facts import Facts, facts_apply, intent_with_tax
from kindling_billing.webhooks.receiving import event_take

EVENTS, MOVEMENTS, INTENTS = "events", "movements", "intents"
# Read again what is younger than this: lists may lag, and events are made before they can be listed.
OVERLAP = timedelta(hours=1)
EVER = datetime.fromtimestamp(0, UTC)
LATE = timedelta(hours=20)
PAGE_LIFE = timedelta(hours=25)
FINDING = "provider.books_differ"
# What the provider says of an id that it does not have.
GONE = "resource_missing"
# Types of balance transactions that are costs of the account itself.
FEES = {"stripe_fee", "stripe_fx_fee", "network_cost", "tax_fee"}


@dataclass(slots=True)
class Heard:
    """What catching up changed: events taken in, movements booked, owners whose money moved."""

    events: int = 0
    movements: int = 0
    owner_ids: set[str] = field(default_factory=set)


def events_catch_up(api: StripeApi) -> Heard:
    """Take in every event that no webhook brought.

    Raises:
        ProviderAway, ProviderRefused.
    """
    heard = Heard()
    events = reading.event_list(api, since=_mark(EVENTS))
    for event in events:
        receipt = event_take(api, event)
        heard.events += receipt.state != "known"
        heard.owner_ids |= receipt.owner_ids
    _mark_move(EVENTS, events)
    return heard


def movements_book(api: StripeApi) -> int:
    """Book what the provider moved in its own balance; gives how many movements were new.

    Raises:
        ProviderAway, ProviderRefused.
    """
    movements = reading.movement_list(api, since=_mark(MOVEMENTS))
    booked = sum(_movement_book(movement) for movement in movements)
    step("settlement.booked")
    _mark_move(MOVEMENTS, movements)
    return booked


def reconcile(api: StripeApi, *, now: datetime | None = None) -> tuple[Reconciliation, set[str]]:
    """Catch up, read the payments anew, compare, and keep what was found; also the owners whose money moved.

    Raises:
        ProviderAway, ProviderRefused.
    """
    now = now or utc_now()
    heard = events_catch_up(api)
    intents = reading.intent_list(api, since=_mark(INTENTS))
    findings = [finding for intent in intents for finding in _intent_compare(api, intent, heard)]
    findings += _open_payments_read(api, now, heard)
    heard.movements = movements_book(api)
    _mark_move(INTENTS, intents)
    findings += _open_things(now)
    figures = _figures(api, intents, heard)
    if figures["clearing_cents"] != "0":
        findings.append(f"Clearing stands at {figures['clearing_cents']} cents.")
    if figures["stripe_balance_cents"] != figures["booked_balance_cents"]:
        findings.append(
            f"Stripe holds {figures['stripe_balance_cents']} cents, the books say {figures['booked_balance_cents']}."
        )
    for finding in findings:
        notice_add(kind=FINDING, key=finding, data={"finding": finding})
    row = Reconciliation.objects.create(run_at=now, figures=figures, findings=findings)
    return row, heard.owner_ids


def _movement_book(movement: dict[str, Any]) -> bool:
    id_, gross, fee = movement["id"], int(movement["amount"]), int(movement["fee"])
    if movement["type"] in FEES:
        gross, fee = 0, fee - gross  # what Stripe takes for itself clears nothing
    try:
        if movement["type"].startswith("payout"):
            return payout_received(payout_id=id_, amount_cents=-gross, currency=movement["currency"])
        if gross == 0 and fee == 0:
            return False
        memo = f"{movement['type']} {movement.get('source') or ''}".strip()
        return settlement_received(
            settlement_id=id_, amount_cents=gross, fee_cents=fee, currency=movement["currency"], memo=memo
        )
    except BillingError as error:
        text = f"Movement {id_} of Stripe's balance cannot be booked: {error.message}"
        notice_add(kind=FINDING, key=id_, data={"finding": text})
        return False


def _intent_compare(api: StripeApi, intent: dict[str, Any], heard: Heard) -> list[str]:
    """Book a payment that nobody told of; what is wrong with it otherwise."""
    id_, paid = intent["id"], intent["status"] == "succeeded"
    if not is_ours(intent):
        return [f"Payment {id_} was made at Stripe and not here."] if paid else []
    try:
        facts = Facts(intents=[intent_with_tax(api, intent)])
        with transaction.atomic():
            heard.owner_ids |= facts_apply(facts)
    except (BillingError, ProviderRefused) as error:
        return [f"Payment {id_} cannot be booked: {error.message}"]
    if not paid:
        return []
    row = Payment.objects.filter(intent_id=id_, state=Payment.State.SUCCEEDED).first()
    if row is None:
        return [f"Payment {id_} is not in the books."]
    if row.total_cents != int(intent["amount_received"]):
        return [
            f"Payment {id_} is booked with {row.total_cents} cents, Stripe has {intent['amount_received']}."
        ]
    return [] if row.id == intent["metadata"][PAYMENT] else [f"Payment {id_} is booked as {row.id}."]


def _open_payments_read(api: StripeApi, now: datetime, heard: Heard) -> list[str]:
    """Look at the end of payments whose end nobody told, such as pages that closed during an outage; what is wrong
    with any of them.
    """
    findings = []
    opened = Payment.objects.filter(state=Payment.State.OPEN, created_at__lt=now - PAGE_LIFE)
    calls = OutboxCall.objects.filter(kind__in=CALLS_OF_PAYMENTS, state=OutboxCall.State.DONE)
    for call in calls.filter(subject__in=opened.values("id")):
        try:
            facts = _outcome_read(api, call)
            with transaction.atomic():
                heard.owner_ids |= facts_apply(facts)
        except (BillingError, ProviderRefused) as error:
            findings.append(f"Payment {call.subject} is open, and its end cannot be booked: {error.args[0]}")
            if isinstance(error, ProviderRefused) and error.code == GONE:
                # Of another account or of test mode: nobody can pay it any more.
                payment_failed(payment_id=call.subject, code=error.code, message=error.message)
    return findings


def _outcome_read(api: StripeApi, call: OutboxCall) -> Facts:
    facts = Facts()
    if call.kind == OutboxCall.Kind.CHARGE:
        facts.intents.append(intent_with_tax(api, reading.intent_read(api, call.result_id)))
        return facts
    session = reading.session_read(api, call.result_id)
    if session["status"] == "expired":
        facts.sessions.append(session)
    elif session.get("payment_intent"):
        facts.intents.append(intent_with_tax(api, reading.intent_read(api, session["payment_intent"])))
    return facts


def _open_things(now: datetime) -> list[str]:
    waiting = OutboxCall.objects.filter(state=OutboxCall.State.WAITING, created_at__lt=now - LATE)
    stuck = OutboxCall.objects.filter(state=OutboxCall.State.STUCK)
    parked = StripeEvent.objects.filter(state=StripeEvent.State.PARKED)
    return [
        *(
            f"Request {call.id} ({call.kind}) is unresolved since {call.created_at:%Y-%m-%d %H:%M}."
            for call in waiting
        ),
        *(f"Request {call.id} ({call.kind}) needs a decision: {call.trouble}" for call in stuck),
        *(f"Event {event.id} ({event.type}) is parked: {event.reason}" for event in parked),
    ]


def _figures(api: StripeApi, intents: list[dict[str, Any]], heard: Heard) -> dict[str, str]:
    paid = [intent for intent in intents if intent["status"] == "succeeded"]
    return {
        "payments_seen": str(len(intents)),
        "paid_cents": str(sum(int(intent["amount_received"]) for intent in paid)),
        "events_caught_up": str(heard.events),
        "movements_booked": str(heard.movements),
        "outbox_waiting": str(OutboxCall.objects.filter(state=OutboxCall.State.WAITING).count()),
        "clearing_cents": _cents_text(account_sum("stripe_clearing")),
        "stripe_balance_cents": str(reading.balance_cents(api, CURRENCY)),
        "booked_balance_cents": _cents_text(-account_sum("stripe_balance")),
    }


def _cents_text(picousd: int) -> str:
    whole, rest = divmod(picousd, PICO_PER_CENT)
    return str(whole) if rest == 0 else f"{whole} + {rest}/{PICO_PER_CENT}"


def _mark(name: str) -> datetime:
    """From when on a list is read; the mark is the provider's own time, so that no jump of our clock leaves a gap."""
    found = ProviderMark.objects.filter(name=name).values_list("read_until", flat=True).first()
    return found - OVERLAP if found else EVER


def _mark_move(name: str, things: list[dict[str, Any]]) -> None:
    if not things:
        return
    newest = datetime.fromtimestamp(max(int(thing["created"]) for thing in things), UTC)
    row, made = ProviderMark.objects.get_or_create(name=name, defaults={"read_until": newest})
    if not made:
        ProviderMark.objects.filter(pk=row.pk, read_until__lt=newest).update(read_until=newest)
