"""Compares days, a bounded number at a time; each day's result replaces the one before, so a repeat changes nothing."""

from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from typing import Any

from django.db import connection, transaction
from django.db.models import Min, Q

from kindling_billing.comparing.judging import Told, cause_of, verdict_of
from kindling_billing.comparing.our_side import booked_alone, ours_fill, requests_open
from kindling_billing.comparing.provider_side import Listed, day_read, moment_of
from kindling_billing.models import ComparedDay, ComparedMovement, LedgerTransaction, OutboxCall, utc_now
from kindling_billing.stripe_api import reading
from kindling_billing.stripe_api.client import StripeApi
from kindling_billing.stripe_api.outcomes import ProviderRefused

# Always looked at anew: what happened on them may still be on its way.
RECENT_DAYS = 3
MOST_DAYS = 31
MOST_READ_SINGLY = 50
Verdict = ComparedMovement.Verdict


def days_compare(api: StripeApi, *, now: datetime | None = None) -> list[ComparedDay]:
    """Compare the days that are due, the oldest first.

    Raises:
        ProviderAway, ProviderRefused; the days before it are kept.
    """
    now = now or utc_now()
    return [day_compare(api, day=day, now=now) for day in days_due(now=now)]


def days_due(*, now: datetime) -> list[date]:
    """The last days, those that did not agree, and those that were never compared."""
    today = now.astimezone(UTC).date()
    recent = {today - timedelta(days=back) for back in range(RECENT_DAYS)}
    compared = set(ComparedDay.objects.values_list("day", flat=True))
    unsettled = ComparedDay.objects.filter(Q(differing__gt=0) | Q(waiting__gt=0)).exclude(day__in=recent)
    wanted = list(unsettled.order_by("compared_at").values_list("day", flat=True)[: MOST_DAYS // 2])
    first = _first_day()
    if first is not None:
        span = range((today - first).days + 1)
        never = [day for day in (first + timedelta(days=n) for n in span) if day not in compared]
        wanted += [day for day in never if day not in recent][: MOST_DAYS - len(recent) - len(wanted)]
    return sorted({*wanted, *recent})


def day_compare(api: StripeApi, *, day: date, now: datetime | None = None) -> ComparedDay:
    """Compare one day, movement by movement, and keep the result.

    Raises:
        ProviderAway, ProviderRefused.
    """
    now = now or utc_now()
    listed = day_read(api, day)
    ours_fill(listed)
    rows = [*listed.told.values(), *_unnamed(listed), *_unlisted(api, day, listed), *requests_open(day)]
    return _keep(day, rows, now)


def _first_day() -> date | None:
    booked = LedgerTransaction.objects.filter(source_type="payment").aggregate(first=Min("posted_at"))[
        "first"
    ]
    asked = OutboxCall.objects.aggregate(first=Min("created_at"))["first"]
    found = [moment for moment in (booked, asked) if moment is not None]
    return min(found).astimezone(UTC).date() if found else None


def _unnamed(listed: Listed) -> Iterable[Told]:
    """Movements of the balance that no charge, refund or dispute of this day names, unless one of another day does."""
    sources = {str(movement.get("source") or "") for movement in listed.unnamed.values()}
    known = set(ComparedMovement.objects.filter(id__in=sources).values_list("id", flat=True)) | set(
        listed.told
    )
    for id_, movement in listed.unnamed.items():
        if str(movement.get("source") or "") in known:
            continue
        yield Told(
            id=id_,
            kind="other",
            happened_at=moment_of(movement),
            moved_cents=int(movement["amount"]),
            detail=f"{movement['type']} {movement.get('source') or ''}".strip(),
        )


def _unlisted(api: StripeApi, day: date, listed: Listed) -> Iterable[Told]:
    """Payments booked on this day that no listing has shown; each is asked for by its id."""
    known = {told.intent_id for told in listed.told.values() if told.kind == "charge"}
    for intent_id, posted_at, cents in booked_alone(day, known)[:MOST_READ_SINGLY]:
        intent = _intent_find(api, intent_id)
        if intent is not None and intent["status"] == "succeeded":
            continue  # it is listed on the day of its charge
        yield Told(
            id=intent_id,
            kind="charge",
            happened_at=posted_at,
            intent_id=intent_id,
            booked_cents=cents,
            status=intent["status"] if intent else "",
        )


def _intent_find(api: StripeApi, intent_id: str) -> dict[str, Any] | None:
    try:
        return reading.intent_read(api, intent_id)
    except ProviderRefused:
        return None


@transaction.atomic
def _keep(day: date, told: Iterable[Told], now: datetime) -> ComparedDay:
    with connection.cursor() as cursor:
        # The hourly run and an operator's may come to the same day at the same moment.
        cursor.execute("SELECT pg_advisory_xact_lock(hashtext('kindling.comparing'))")
    before = {row.id: row for row in ComparedMovement.objects.filter(day=day)}
    rows = [_row(one, day, now, before.get(one.id)) for one in told]
    ComparedMovement.objects.filter(Q(day=day) | Q(id__in=[row.id for row in rows])).delete()
    ComparedMovement.objects.bulk_create(rows)
    compared, _ = ComparedDay.objects.update_or_create(
        day=day,
        defaults={
            "movements": sum(row.kind != ComparedMovement.Kind.REQUEST for row in rows),
            "stripe_cents": sum(row.stripe_cents or 0 for row in rows),
            "booked_cents": sum(row.booked_cents or 0 for row in rows),
            "moved_cents": sum(row.moved_cents or 0 for row in rows),
            "asked_cents": sum(row.asked_cents or 0 for row in rows),
            "differing": sum(row.verdict == Verdict.DIFFERS and row.accepted_at is None for row in rows),
            "waiting": sum(row.verdict == Verdict.WAITS for row in rows),
            "compared_at": now,
        },
    )
    return compared


def _row(told: Told, day: date, now: datetime, before: ComparedMovement | None) -> ComparedMovement:
    cause = cause_of(told, now=now)
    row = ComparedMovement(
        id=told.id,
        day=day,
        kind=told.kind,
        happened_at=told.happened_at,
        owner_id=told.owner_id,
        payment_id=told.payment_id,
        intent_id=told.intent_id,
        stripe_cents=told.stripe_cents,
        booked_cents=told.booked_cents,
        moved_cents=told.moved_cents,
        asked_cents=told.asked_cents,
        verdict=verdict_of(cause),
        cause=cause,
        detail=told.detail[:300],
    )
    if before is not None and before.cause == cause:
        row.accepted_at, row.accepted_by = before.accepted_at, before.accepted_by
        row.accepted_note = before.accepted_note
    return row
