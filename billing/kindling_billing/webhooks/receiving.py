"""Takes one event in: its id and its effect in the same transaction, so that it counts once however often it comes."""

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from django.db import IntegrityError, transaction

from kindling_billing.errors import BillingError
from kindling_billing.models import StripeEvent, utc_now
from kindling_billing.notices import notice_add
from kindling_billing.steps import step
from kindling_billing.stripe_api import reading
from kindling_billing.stripe_api.client import StripeApi
from kindling_billing.stripe_api.outcomes import ProviderRefused
from kindling_billing.webhooks.facts import Facts, facts_apply, facts_read
from kindling_billing.webhooks.signature import signature_check

PARKED = "provider.event_parked"
MAX_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Receipt:
    """What became of an event: `applied`, `ignored`, `parked` or `known`, and the owners whose money moved."""

    state: str
    owner_ids: set[str] = field(default_factory=set)


def webhook_receive(
    api: StripeApi, *, payload: bytes, header: str, secret: str, now: datetime | None = None
) -> Receipt:
    """Verify a webhook and take its event in.

    Raises:
        BillingError: `signature_invalid`, `signature_stale`, `event_invalid`.
        ProviderAway: what the event is about cannot be read now; the provider will tell again.
    """
    signature_check(payload, header, secret=secret, now=now or utc_now())
    try:
        event = json.loads(payload)
        _ = event["id"] + event["type"], event["data"]["object"]["object"], int(event["created"])
    except (ValueError, KeyError, TypeError) as error:
        raise BillingError("event_invalid", "The webhook is not an event.") from error
    return event_take(api, event)


def event_take(api: StripeApi, event: dict[str, Any]) -> Receipt:
    """Take an event in that is known to be the provider's; one that was taken before changes nothing.

    Raises:
        ProviderAway.
    """
    if StripeEvent.objects.filter(id=event["id"]).exists():
        return Receipt("known")
    try:
        facts = facts_read(api, event)
    except ProviderRefused as error:
        return _park(event, f"{error.code}: {error.message}")
    step("webhook.read")
    return _book(event, facts)


def event_retry(api: StripeApi, *, event_id: str) -> Receipt:
    """Try a parked event again, as the operator asks.

    Raises:
        BillingError: `event_unknown`; ProviderAway.
    """
    row = StripeEvent.objects.filter(id=event_id, state=StripeEvent.State.PARKED).first()
    if row is None:
        raise BillingError("event_unknown", "There is no parked event of this id.")
    try:
        facts = facts_read(api, reading.event_read(api, event_id))
        with transaction.atomic():
            owners = facts_apply(facts)
            rows = StripeEvent.objects.filter(id=event_id, state=StripeEvent.State.PARKED)
            rows.update(state=StripeEvent.State.APPLIED, reason="")
    except (BillingError, ProviderRefused) as error:
        StripeEvent.objects.filter(id=event_id).update(reason=f"{error.code}: {error.message}"[:300])
        return Receipt("parked")
    return Receipt("applied", owners)


@transaction.atomic
def event_close(*, event_id: str, note: str) -> StripeEvent:
    """Note that a parked event was dealt with by hand; it is not tried again.

    Raises:
        BillingError: `event_unknown`, `note_missing`.
    """
    if not note.strip():
        raise BillingError("note_missing", "Say what was done about it.")
    row = StripeEvent.objects.select_for_update().filter(id=event_id, state=StripeEvent.State.PARKED).first()
    if row is None:
        raise BillingError("event_unknown", "There is no parked event of this id.")
    row.state, row.reason = StripeEvent.State.CLOSED, f"Closed: {note.strip()}"[:300]
    row.save(update_fields=["state", "reason"])
    return row


def _book(event: dict[str, Any], facts: Facts) -> Receipt:
    state = StripeEvent.State.IGNORED if facts.is_empty else StripeEvent.State.APPLIED
    try:
        with transaction.atomic():
            if not _insert(event, state):
                return Receipt("known")
            owners = facts_apply(facts)
            step("webhook.applied")
    except BillingError as error:
        return _park(event, f"{error.code}: {error.message}")
    step("webhook.committed")
    return Receipt(state, owners)


@transaction.atomic
def _park(event: dict[str, Any], reason: str) -> Receipt:
    """Keep what the books cannot take where the operator sees it; the provider need not tell again."""
    if not _insert(event, StripeEvent.State.PARKED, reason):
        return Receipt("known")
    notice_add(kind=PARKED, key=event["id"], data={"type": event["type"], "reason": reason[:300]})
    return Receipt(StripeEvent.State.PARKED)


def _insert(event: dict[str, Any], state: str, reason: str = "") -> bool:
    row = StripeEvent(
        id=str(event["id"])[:80],
        type=str(event["type"])[:64],
        state=state,
        reason=reason[:300],
        happened_at=datetime.fromtimestamp(int(event["created"]), UTC),
    )
    try:
        # Of two who take the same event, the second waits here for the first to commit.
        with transaction.atomic():
            row.save(force_insert=True)
    except IntegrityError:
        return False
    return True
