"""Sends what waits in the outbox: one attempt at a time per request, under the same idempotency key.

The provider keeps what came of a key for a day. Until 20 hours after the first attempt, sending again is safe: it
repeats the answer, or does what was not done. Later the key may be forgotten, so what the request made is looked up
first, and only where nothing was made does a new round begin.
"""

import secrets
from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import Q

from kindling_billing.models import OutboxCall, utc_now
from kindling_billing.outbox.results import call_answered, call_refused
from kindling_billing.steps import step
from kindling_billing.stripe_api.calls import call_find, call_make
from kindling_billing.stripe_api.client import StripeApi
from kindling_billing.stripe_api.outcomes import ProviderAway, ProviderRefused

LEASE = timedelta(seconds=90)
KEY_IS_GOOD = timedelta(hours=20)
MOST_WAIT_S = 600
# A second one of these moves no money, so nobody waits 20 hours for it.
HARMLESS = {OutboxCall.Kind.CUSTOMER, OutboxCall.Kind.CHECKOUT}


def call_list_due(*, now: datetime | None = None, limit: int = 100) -> list[str]:
    """Requests whose next attempt is due, oldest first."""
    now = now or utc_now()
    rows = OutboxCall.objects.filter(_free(now), state=OutboxCall.State.WAITING, due_at__lte=now)
    return list(rows.order_by("due_at", "id").values_list("id", flat=True)[:limit])


def call_send(api: StripeApi, *, call_id: str, now: datetime | None = None) -> OutboxCall:
    """Make one attempt, unless somebody else is at it or the request has ended; the request as it is then."""
    now = now or utc_now()
    token = _lease(call_id, now)
    if token is None:
        return OutboxCall.objects.get(id=call_id)
    step("outbox.leased")
    call = OutboxCall.objects.get(id=call_id)
    try:
        answer = _resolve(api, call, now)
    except ProviderAway as error:
        return _again_later(call, token, error, now)
    except ProviderRefused as error:
        step("outbox.answered")
        return call_refused(call_id=call.id, token=token, error=error)
    step("outbox.answered")
    return call_answered(call_id=call.id, token=token, answer=answer)


def _free(now: datetime) -> Q:
    return Q(lease_token="") | Q(lease_expires_at__lt=now)


@transaction.atomic
def _lease(call_id: str, now: datetime) -> str | None:
    """Take a request; that an attempt began is on disk before anything is sent."""
    rows = OutboxCall.objects.select_for_update().filter(_free(now), state=OutboxCall.State.WAITING)
    call = rows.filter(id=call_id).first()
    if call is None:
        return None
    call.lease_token, call.lease_expires_at = secrets.token_hex(16), now + LEASE
    call.attempts += 1
    call.first_sent_at = call.first_sent_at or now
    call.save(update_fields=["lease_token", "lease_expires_at", "attempts", "first_sent_at"])
    return call.lease_token


def _resolve(api: StripeApi, call: OutboxCall, now: datetime) -> dict[str, object]:
    if call.first_sent_at is not None and now >= call.first_sent_at + KEY_IS_GOOD:
        found = _find(api, call)
        if found is not None:
            return found
        _next_round(call, now)
    try:
        return call_make(api, kind=call.kind, params=call.params, key=call.key)
    except ProviderAway as error:
        # A failure is kept under the key and repeated, whether or not the request had its effect.
        found = _find(api, call) if error.failed else None
        if found is None:
            if error.failed and call.kind in HARMLESS:
                _next_round(call, now)
            raise
        return found
    except ProviderRefused:
        # An earlier attempt, of which nothing was heard, may have done what cannot be done twice.
        found = _find(api, call) if call.attempts > 1 and call.kind in {"refund", "forget_card"} else None
        if found is None:
            raise
        return found


def _find(api: StripeApi, call: OutboxCall) -> dict[str, object] | None:
    return call_find(api, kind=call.kind, params=call.params, call_id=call.id, since=call.created_at)


def _next_round(call: OutboxCall, now: datetime) -> None:
    call.round += 1
    call.first_sent_at = now
    call.save(update_fields=["round", "first_sent_at"])
    step("outbox.next_round")


def _again_later(call: OutboxCall, token: str, error: ProviderAway, now: datetime) -> OutboxCall:
    wait_s = min(2 ** min(call.attempts, 16), MOST_WAIT_S)
    OutboxCall.objects.filter(id=call.id, lease_token=token).update(
        lease_token="",
        lease_expires_at=None,
        due_at=now + timedelta(seconds=wait_s),
        trouble_code=error.code[:64],
        trouble=error.message[:300],
    )
    call.refresh_from_db()
    return call
