"""What clearing and the outbox say of the movements that the provider lists, and what only they know of."""

from collections import defaultdict
from collections.abc import Collection, Iterable
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from django.db.models import Sum

from kindling_billing.comparing.judging import Told
from kindling_billing.comparing.provider_side import Listed
from kindling_billing.models import ComparedMovement, LedgerEntry, LedgerTransaction, OutboxCall, Payment
from kindling_billing.money import PICO_PER_CENT
from kindling_billing.payments import CLEARING
from kindling_billing.webhooks.effects import CALLS_OF_PAYMENTS

SETTLEMENT = ("settlement",)
# The postings by which customers are credited and debited through clearing, by what the provider calls their cause.
CREDITED = {
    "charge": ("payment",),
    "refund": ("refund", "refund_returned", "refund_paid"),
    "dispute": ("dispute", "dispute_closed"),
}


def ours_fill(listed: Listed) -> None:
    """Add to each movement what clearing and the outbox say of it."""
    payments = _payments(listed.told.values())
    for told in listed.told.values():
        payment = payments.get(told.intent_id)
        if payment is not None:
            told.payment_id, told.owner_id, told.is_ours = payment.id, payment.owner_id, True
        elif told.kind == "refund":
            told.is_ours = bool(told.payment_id)
    for kind, source_types in CREDITED.items():
        rows = [told for told in listed.told.values() if told.kind == kind]
        sums = clearing_sums(source_types, {_source_id(told) for told in rows})
        for told in rows:
            found = sums.get(_source_id(told))
            told.booked_cents = None if found is None else -found
    moved = clearing_sums(SETTLEMENT, {id_ for ids in listed.moved_by.values() for id_ in ids})
    for id_, told in listed.told.items():
        found_here = [moved[one] for one in listed.moved_by[id_] if one in moved]
        # Of a movement that went out and came back, one half alone is not an answer.
        told.moved_cents = sum(found_here) if found_here else None
    _asked_fill(listed.told.values(), payments)


def clearing_sums(source_types: Collection[str], source_ids: Collection[str]) -> dict[str, int]:
    """Cents that postings of these causes moved in clearing, by the cause's id; those without any are absent."""
    rows = LedgerEntry.objects.filter(
        account__kind=CLEARING,
        transaction__source_type__in=list(source_types),
        transaction__source_id__in=list(source_ids),
    )
    sums = rows.values("transaction__source_id").annotate(total=Sum("amount_picousd"))
    return {row["transaction__source_id"]: int(row["total"]) // PICO_PER_CENT for row in sums}


def booked_alone(day: date, known: Collection[str]) -> list[tuple[str, datetime, int]]:
    """Payments that were booked on a day and that no listing has shown: intent, moment, cents."""
    start = datetime.combine(day, time(), UTC)
    rows = LedgerTransaction.objects.filter(
        source_type="payment", posted_at__gte=start, posted_at__lt=start + timedelta(days=1)
    )
    seen = set(known) | set(
        ComparedMovement.objects.filter(
            intent_id__in=rows.values("source_id"), kind=ComparedMovement.Kind.CHARGE
        )
        .exclude(stripe_cents=None)
        .values_list("intent_id", flat=True)
    )
    alone = [row for row in rows.order_by("id") if row.source_id not in seen]
    sums = clearing_sums(("payment",), [row.source_id for row in alone])
    return [(row.source_id, row.posted_at, -sums.get(row.source_id, 0)) for row in alone]


def requests_open(day: date) -> list[Told]:
    """Requests for money of a day that have not come to an end."""
    start = datetime.combine(day, time(), UTC)
    rows = OutboxCall.objects.filter(
        created_at__gte=start,
        created_at__lt=start + timedelta(days=1),
        state__in=[OutboxCall.State.WAITING, OutboxCall.State.STUCK],
        kind__in=[*CALLS_OF_PAYMENTS, OutboxCall.Kind.REFUND],
    )
    return [
        Told(
            id=call.id,
            kind="request",
            happened_at=call.created_at,
            owner_id=call.owner_id,
            payment_id=call.subject.partition(":")[0][:32],
            asked_cents=asked_cents(call),
            call_state=call.state,
            detail=call.trouble,
        )
        for call in rows.order_by("created_at", "id")
    ]


def asked_cents(call: OutboxCall, *, tax_cents: int = 0) -> int:
    """What a request asks for, below zero for what goes out; `tax_cents` is what the provider adds by itself."""
    params: dict[str, Any] = call.params
    if call.kind == OutboxCall.Kind.CHECKOUT:
        lines = params.get("line_items", [])
        asked = sum(int(line["price_data"]["unit_amount"]) * int(line.get("quantity", 1)) for line in lines)
        return asked + (tax_cents if params.get("automatic_tax") else 0)
    cents = int(params.get("amount", 0))
    return -cents if call.kind == OutboxCall.Kind.REFUND else cents


def _asked_fill(rows: Iterable[Told], payments: dict[str, Payment]) -> None:
    by_kind: dict[str, list[Told]] = defaultdict(list)
    for told in rows:
        by_kind[told.kind].append(told)
    charges = OutboxCall.objects.filter(
        kind__in=CALLS_OF_PAYMENTS, subject__in=[told.payment_id for told in by_kind["charge"]]
    )
    calls = {call.subject: call for call in charges}
    for told in by_kind["charge"]:
        if call := calls.get(told.payment_id):
            payment = payments.get(told.intent_id)
            told.asked_cents = asked_cents(call, tax_cents=payment.tax_cents if payment else 0)
    refunds = OutboxCall.objects.filter(
        kind=OutboxCall.Kind.REFUND, result_id__in=[told.id for told in by_kind["refund"]]
    )
    asked = {call.result_id: call for call in refunds}
    for told in by_kind["refund"]:
        if call := asked.get(told.id):
            told.asked_cents = asked_cents(call)


def _payments(rows: Iterable[Told]) -> dict[str, Payment]:
    wanted = {told.intent_id for told in rows if told.intent_id}
    found = Payment.objects.filter(intent_id__in=wanted, state=Payment.State.SUCCEEDED)
    return {payment.intent_id: payment for payment in found}


def _source_id(told: Told) -> str:
    return told.intent_id if told.kind == "charge" else told.id
