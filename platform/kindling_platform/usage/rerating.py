"""Rates usage anew by its event time: what was posted is reversed and posted again, never edited.

A run goes through its span in steps of some hundred events, each one transaction that also moves the run's cursor, so
that it may be killed anywhere and goes on where it was.
"""

from datetime import datetime
from uuid import UUID

from django.db import transaction

from kindling_billing.book import Version
from kindling_billing.models.prices import Rerating
from kindling_billing.rating import Line
from kindling_billing.selectors import price_book, price_map, price_of
from kindling_billing.usage import Correction, usage_correct
from kindling_platform.audit.services import audit_record
from kindling_platform.common.actors import Actor
from kindling_platform.common.clock import now
from kindling_platform.common.errors import KindlingError
from kindling_platform.usage.models import UsageEvent
from kindling_platform.usage.rating import event_lines
from kindling_platform.usage.retention import retention_lock, retired_between
from kindling_platform.usage.rollups import part_of, rollups_move
from kindling_platform.usage.services import charge_of
from kindling_platform.usage.witnesses import usage_lock

STEP = 500
FIRST = UUID(int=0)


@transaction.atomic
def rerating_start(
    *, sku: str, start: datetime, end: datetime, reason: str, actor: Actor, owner_id: str = ""
) -> Rerating:
    """Ask for a model's usage in a span of time, one organisation's or all, to be rated by the prices of its time.

    Raises:
        KindlingError: `span_invalid`, `reason_missing`, `span_not_kept`.
    """
    if not start < end <= now():
        raise KindlingError(
            "span_invalid", "The span must end after its start, and not in the future.", param="end"
        )
    if not reason.strip():
        raise KindlingError("reason_missing", "Say why: the customers' ledgers will show it.", param="reason")
    # What is old enough may be on its way out at this very moment: whoever comes second sees what the first has done.
    retention_lock()
    if retired_between(start=start, end=end, owner_id=owner_id):
        text = "Requests of this span were deleted, as they were old enough. Begin the span after their last day."
        raise KindlingError("span_not_kept", text, 409, param="start")
    run = Rerating.objects.create(
        sku=sku, owner_id=owner_id, start=start, end=end, reason=reason.strip()[:200], created_by=actor.label
    )
    span = {"start": start.isoformat(), "end": end.isoformat(), "reason": run.reason, "owner": owner_id}
    audit_record(actor=actor, action="usage.rerated", target=sku, organisation_id=owner_id, data=span)
    return run


def rerating_list_open() -> list[int]:
    """The numbers of runs that are not through, oldest first."""
    return list(Rerating.objects.filter(done_at=None).order_by("id").values_list("id", flat=True))


@transaction.atomic
def rerating_step(*, run_id: int, limit: int = STEP) -> bool:
    """Rate the next events of a run; False when it is through."""
    usage_lock()
    run = Rerating.objects.select_for_update().get(id=run_id)
    if run.done_at is not None:
        return False
    events = _events(run, limit)
    book = price_book(skus=[run.sku], owner_ids={event.organisation_id for event in events})
    old = price_map(price_ids={event.price_version_id for event in events})
    corrections, changed, before = [], [], []
    for event in events:
        version = book.find(event.organisation_id, event.model_id, event.started_at)
        if version is None or event.price_version_id not in old:
            run.gaps += 1
            continue
        if version.id == event.price_version_id:
            continue
        before.append(part_of(event))
        before_lines = event_lines(event, price_of(old[event.price_version_id]))
        corrections.append(_correct(event, before_lines, version, run.id))
        changed.append(event)
    usage_correct(corrections)
    UsageEvent.objects.bulk_update(changed, ["cost_picousd", "price_version_id"])
    rollups_move(before=before, after=map(part_of, changed))
    run.seen += len(events)
    run.changed += len(changed)
    run.difference_picousd += sum(one.after.cost_picousd - one.before.cost_picousd for one in corrections)
    run.cursor = str(events[-1].request_id) if events else run.cursor
    run.done_at = now() if len(events) < limit else None
    run.save()
    return run.done_at is None


def _events(run: Rerating, limit: int) -> list[UsageEvent]:
    rows = UsageEvent.objects.filter(
        model_id=run.sku,
        billable=True,
        finished_at__gte=run.start,
        finished_at__lt=run.end,
        request_id__gt=UUID(run.cursor) if run.cursor else FIRST,
    )
    if run.owner_id:
        rows = rows.filter(organisation_id=run.owner_id)
    return list(rows.select_for_update().order_by("request_id")[:limit])


def _correct(event: UsageEvent, before_lines: tuple[Line, ...], version: Version, run: int) -> Correction:
    """The correction of one event, which then carries its new price and cost."""
    before = charge_of(event, before_lines)
    after_lines = event_lines(event, version.price)
    event.price_version_id = version.id
    event.cost_picousd = sum(line.amount_picousd for line in after_lines)
    return Correction(before, charge_of(event, after_lines), run)
