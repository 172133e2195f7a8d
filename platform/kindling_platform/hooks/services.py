"""Makes, changes and deletes endpoints, shows and rotates their secrets, and sends what somebody asks for.

Each leaves an audit entry. It names the host alone: paths and queries of such addresses are often secrets themselves.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

from django.db import transaction

from kindling_platform.accounts.models import Organisation
from kindling_platform.audit.services import audit_record
from kindling_platform.common.actors import Actor
from kindling_platform.common.clock import now
from kindling_platform.common.errors import KindlingError, not_found
from kindling_platform.common.jobs import enqueue
from kindling_platform.common.org_seal import SealBrokenError
from kindling_platform.hooks.ending import endpoint_off
from kindling_platform.hooks.kinds import DESCRIPTION_CHARS, KINDS, TEST
from kindling_platform.hooks.models import Delivery, Endpoint, Event
from kindling_platform.hooks.places import Place
from kindling_platform.hooks.secret import secret_make, secret_open, secret_seal
from kindling_platform.hooks.writing import DELIVER_JOB, deliveries_add

MOST_ENDPOINTS = 10
# How long the old secret goes on signing beside a new one.
OVERLAP = timedelta(hours=24)
# What somebody may ask for by hand, of one endpoint in a minute.
MOST_ASKED = 10
HELLO = "This is a test. Verify the signature, answer with 200, and ignore what you do not know."


@dataclass(frozen=True, slots=True)
class Wanted:
    """What an endpoint shall be; None leaves as it is. Its place was looked up before, outside of any transaction."""

    place: Place | None = None
    description: str | None = None
    events: Sequence[str] | None = None
    enabled: bool | None = None


@transaction.atomic
def endpoint_create(*, org: Organisation, place: Place, wanted: Wanted, actor: Actor) -> tuple[Endpoint, str]:
    """Make an endpoint; gives it and its secret.

    Raises:
        KindlingError: `webhook_limit_reached`, `webhook_events_unknown`, `webhook_description_invalid`.
    """
    # One at a time, so that the bound holds.
    Organisation.objects.select_for_update(no_key=True).get(id=org.id)
    if Endpoint.objects.for_org(org).count() >= MOST_ENDPOINTS:
        text = f"An organisation has up to {MOST_ENDPOINTS} webhooks. Delete one that is not needed any more."
        raise KindlingError("webhook_limit_reached", text, 409)
    endpoint = Endpoint(
        organisation=org, url=place.url, description=_description(wanted.description or ""),
        events=_events(wanted.events or ()), enabled=wanted.enabled is not False, enabled_at=now(),
    )  # fmt: skip
    secret = secret_make()
    endpoint.secret_sealed = secret_seal(secret, org_id=org.id, endpoint_id=endpoint.id)
    endpoint.save(force_insert=True)
    _record(endpoint, "webhook.created", actor, after=_shown(endpoint))
    return endpoint, secret


@transaction.atomic
def endpoint_change(*, org: Organisation, endpoint_id: str, wanted: Wanted, actor: Actor) -> Endpoint:
    """Make an endpoint another, or switch it; what was not sent to one that is switched off is given up.

    Raises:
        KindlingError: `not_found`, `webhook_events_unknown`, `webhook_description_invalid`.
    """
    endpoint = _locked(org, endpoint_id)
    before = _shown(endpoint)
    url = endpoint.url
    if wanted.place is not None:
        endpoint.url = wanted.place.url
    if wanted.description is not None:
        endpoint.description = _description(wanted.description)
    if wanted.events is not None:
        endpoint.events = _events(wanted.events)
    if endpoint.url != url:
        endpoint.failing_since = None
    if wanted.enabled and not endpoint.enabled:
        endpoint.enabled, endpoint.enabled_at = True, now()
        endpoint.off_reason, endpoint.failing_since = "", None
    endpoint.save()
    if wanted.enabled is False and endpoint.enabled:
        endpoint_off(endpoint)
    if (after := _shown(endpoint)) != before or endpoint.url != url:
        _record(endpoint, "webhook.changed", actor, before=before, after=after)
    return endpoint


@transaction.atomic
def endpoint_delete(*, org: Organisation, endpoint_id: str, actor: Actor) -> None:
    """Delete an endpoint with all that was sent to it.

    Raises:
        KindlingError: `not_found`.
    """
    endpoint = _locked(org, endpoint_id, to_delete=True)
    _record(endpoint, "webhook.deleted", actor, before=_shown(endpoint))
    endpoint.delete()


@transaction.atomic
def endpoint_rotate(*, org: Organisation, endpoint_id: str, actor: Actor) -> tuple[Endpoint, str]:
    """Give an endpoint a new secret; what is sent within the next 24 hours is signed with the old one as well.

    Raises:
        KindlingError: `not_found`; `webhook_rotated` while an earlier rotation's overlap goes on.
    """
    endpoint, moment = _locked(org, endpoint_id), now()
    if endpoint.old_secret_until is not None and endpoint.old_secret_until > moment:
        text = "It was rotated within the last 24 hours, and its old secret still signs. Rotate again after that."
        raise KindlingError("webhook_rotated", text, 409)
    secret = secret_make()
    endpoint.old_secret_sealed, endpoint.old_secret_until = endpoint.secret_sealed, moment + OVERLAP
    endpoint.secret_sealed = secret_seal(secret, org_id=org.id, endpoint_id=endpoint.id)
    endpoint.save(update_fields=["old_secret_sealed", "old_secret_until", "secret_sealed"])
    _record(endpoint, "webhook.rotated", actor)
    return endpoint, secret


@transaction.atomic
def endpoint_secret_show(*, org: Organisation, endpoint_id: str, actor: Actor) -> tuple[Endpoint, str]:
    """An endpoint's secret, for whoever has just confirmed that it is them; that it was shown is recorded.

    Raises:
        KindlingError: `not_found`, `webhook_secret_sealed`.
    """
    endpoint = _locked(org, endpoint_id)
    try:
        secret = secret_open(endpoint.secret_sealed, org_id=org.id, endpoint_id=endpoint.id)
    except SealBrokenError as error:
        text = "This secret cannot be opened: the installation has another secret key by now. Rotate it."
        raise KindlingError("webhook_secret_sealed", text, 409) from error
    _record(endpoint, "webhook.secret_shown", actor)
    return endpoint, secret


@transaction.atomic
def endpoint_test(*, org: Organisation, endpoint_id: str, actor: Actor) -> Delivery:
    """Have an event of the kind `webhook.test` sent to an endpoint that is on.

    Raises:
        KindlingError: `not_found`, `webhook_off`, `webhook_busy`.
    """
    endpoint = _askable(org, endpoint_id)
    event = Event.objects.create(organisation=org, type=TEST, data={"id": endpoint.id, "message": HELLO})
    (delivery,) = deliveries_add(event=event, endpoints=[endpoint], asked_at=now())
    _record(endpoint, "webhook.tested", actor, data={"event": event.id})
    return delivery


@transaction.atomic
def delivery_again(*, org: Organisation, endpoint_id: str, delivery_id: str, actor: Actor) -> Delivery:
    """Send an event again, with its id; one that still waits is sent now.

    Raises:
        KindlingError: `not_found`, `webhook_off`, `webhook_busy`.
    """
    endpoint = _askable(org, endpoint_id)
    rows = Delivery.objects.for_org(org).filter(endpoint=endpoint, id=delivery_id)
    delivery: Delivery | None = rows.select_for_update(of=("self",)).select_related("event").first()
    if delivery is None:
        raise not_found("delivery")
    delivery.state, delivery.attempts = Delivery.State.WAITING, 0
    delivery.due_at = delivery.asked_at = now()
    delivery.save(update_fields=["state", "attempts", "due_at", "asked_at"])
    _record(endpoint, "webhook.sent_again", actor, data={"event": delivery.event_id})
    enqueue(DELIVER_JOB)
    return delivery


def _askable(org: Organisation, endpoint_id: str) -> Endpoint:
    """A locked endpoint of which something may be asked by hand."""
    endpoint = _locked(org, endpoint_id)
    if not endpoint.enabled:
        raise KindlingError("webhook_off", "This webhook is switched off. Switch it on first.", 409)
    asked = endpoint.deliveries.filter(asked_at__gt=now() - timedelta(minutes=1))
    if asked.count() >= MOST_ASKED:
        text = f"You asked for {MOST_ASKED} sendings within a minute. Wait a moment before the next one."
        raise KindlingError("webhook_busy", text, 429)
    return endpoint


def _locked(org: Organisation, endpoint_id: str, *, to_delete: bool = False) -> Endpoint:
    """An endpoint that nobody else changes; events go on being written for it, unless it is `to_delete`."""
    rows = Endpoint.objects.for_org(org).select_for_update(of=("self",), no_key=not to_delete)
    found: Endpoint | None = rows.filter(id=endpoint_id).first()
    if found is None:
        raise not_found("webhook")
    return found


def _description(text: str) -> str:
    said = " ".join(text.split())
    if len(said) > DESCRIPTION_CHARS or not said.isprintable():
        text = f"A description has up to {DESCRIPTION_CHARS} characters."
        raise KindlingError("webhook_description_invalid", text, param="description")
    return said


def _events(names: Sequence[str]) -> list[str]:
    unknown = [name for name in names if name not in KINDS]
    if unknown:
        text = f"There is no event {unknown[0][:40]!r}. There are {', '.join(KINDS)}; none at all means every one."
        raise KindlingError("webhook_events_unknown", text, param="events")
    return [name for name in KINDS if name in names]


def _shown(endpoint: Endpoint) -> dict[str, Any]:
    return {
        "host": urlsplit(endpoint.url).hostname, "description": endpoint.description,
        "events": ", ".join(endpoint.events) or "all", "enabled": endpoint.enabled,
    }  # fmt: skip


def _record(endpoint: Endpoint, action: str, actor: Actor, **said: Any) -> None:
    audit_record(
        actor=actor, action=action, target=endpoint.id, organisation_id=endpoint.organisation_id, **said
    )
