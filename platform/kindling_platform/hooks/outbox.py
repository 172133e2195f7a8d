"""Deliveries that are due, one attempt after the other: leased, sent by a worker, and settled.

At least once: whoever dies between sending and settling leaves a lease that ends, and the next one sends the same event
under the same id. No row is locked while something is sent.
"""

from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import timedelta

from django.db import transaction
from django.db.models import Q

from kindling_platform.common.clock import now
from kindling_platform.common.leases import lease_release, lease_take
from kindling_platform.common.org_seal import SealBrokenError
from kindling_platform.hooks.ending import endpoint_give_up
from kindling_platform.hooks.models import ANSWER_CHARS, REASON_CHARS, Delivery, Endpoint
from kindling_platform.hooks.secret import secret_open, signature
from kindling_platform.hooks.writing import body_of

# Longer than an attempt can take, looking the address up included.
LEASE_S = 60.0
# How long after each attempt that failed the next one comes; behind the last it is given up.
AGAIN_AFTER = (
    *(timedelta(seconds=5), timedelta(minutes=1), timedelta(minutes=5), timedelta(minutes=30)),
    *(timedelta(hours=2), timedelta(hours=6), timedelta(hours=12), timedelta(hours=24)),
)
# An endpoint that has failed for so long without one success is switched off.
FAILED_FOR = timedelta(days=5)
GONE = 410


@dataclass(frozen=True, slots=True)
class Due:
    """Whose turn it may be."""

    delivery_id: str
    endpoint_id: str
    organisation_id: str
    is_failing: bool


@dataclass(frozen=True, slots=True)
class Attempt:
    """What a worker sends now, holding the lease of its delivery."""

    delivery_id: str
    token: str
    url: str
    body: bytes
    headers: dict[str, str] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of it: a status and the beginning of the answer, or why there is none."""

    status_code: int | None = None
    answer: str = ""
    error: str = ""
    took_ms: int = 0

    @property
    def is_taken(self) -> bool:
        """Whether the other side has it."""
        return self.status_code is not None and 200 <= self.status_code < 300


def delivery_list_due(*, busy: Collection[str] = (), limit: int = 100) -> list[Due]:
    """The next delivery of each endpoint that is on and not `busy`: those of sound ones first, then by age."""
    moment = now()
    rows = Delivery.objects.filter(
        Q(lease_token="") | Q(lease_expires_at__lt=moment),
        state=Delivery.State.WAITING, due_at__lte=moment, endpoint__enabled=True,
    ).exclude(endpoint_id__in=busy)  # fmt: skip
    first = rows.order_by("endpoint_id", "due_at", "id").distinct("endpoint_id")
    found = first.values_list("due_at", "id", "endpoint_id", "organisation_id", "endpoint__failing_since")
    ordered = sorted(found, key=lambda row: (row[4] is not None, row[0], row[1]))
    return [Due(row[1], row[2], row[3], row[4] is not None) for row in ordered[:limit]]


def attempt_begin(*, delivery_id: str) -> Attempt | None:
    """Lease a delivery; None where there is nothing to send, or somebody else does."""
    token = lease_take(Delivery.objects, pk=delivery_id, ttl_s=LEASE_S)
    if token is None:
        return None
    rows = Delivery.objects.filter(id=delivery_id, lease_token=token, state=Delivery.State.WAITING)
    delivery = rows.filter(endpoint__enabled=True).select_related("endpoint", "event").first()
    if delivery is None or delivery.due_at > now():
        lease_release(Delivery.objects, pk=delivery_id, token=token)
        return None
    body = body_of(delivery.event)
    try:
        headers = _headers(delivery, body)
    except SealBrokenError:
        text = (
            "The signing secret cannot be opened: the installation has another secret key by now. Rotate it."
        )
        attempt_settle(delivery_id=delivery_id, token=token, outcome=Outcome(error=text))
        return None
    return Attempt(delivery_id, token, delivery.endpoint.url, body, headers)


@transaction.atomic
def attempt_settle(*, delivery_id: str, token: str, outcome: Outcome) -> bool:
    """Write down what came of an attempt, and when the next one is; False if the lease was lost."""
    endpoint_id = Delivery.objects.filter(id=delivery_id).values_list("endpoint_id", flat=True).first()
    # Endpoint before delivery, as services lock them.
    endpoint = Endpoint.objects.select_for_update(of=("self",), no_key=True).filter(id=endpoint_id).first()
    rows = Delivery.objects.select_for_update(of=("self",)).filter(id=delivery_id, lease_token=token)
    delivery = rows.first()
    if endpoint is None or delivery is None:
        return False
    moment = now()
    delivery.attempts += 1
    delivery.attempted_at, delivery.took_ms = moment, outcome.took_ms
    delivery.status_code, delivery.error = outcome.status_code, outcome.error[:REASON_CHARS]
    delivery.answer = outcome.answer.replace("\0", "")[:ANSWER_CHARS]
    delivery.lease_token, delivery.lease_expires_at = "", None
    if outcome.is_taken:
        delivery.state = Delivery.State.DELIVERED
    elif delivery.state == Delivery.State.WAITING:
        if delivery.attempts > len(AGAIN_AFTER) or outcome.status_code == GONE:
            delivery.state = Delivery.State.FAILED
        else:
            delivery.due_at = moment + AGAIN_AFTER[delivery.attempts - 1]
    delivery.save()
    _endpoint_note(endpoint, outcome)
    return True


def _endpoint_note(endpoint: Endpoint, outcome: Outcome) -> None:
    moment = now()
    if outcome.is_taken:
        if endpoint.failing_since is not None:
            endpoint.failing_since = None
            endpoint.save(update_fields=["failing_since"])
        return
    if endpoint.failing_since is None:
        endpoint.failing_since = moment
        endpoint.save(update_fields=["failing_since"])
    if not endpoint.enabled:
        return
    if outcome.status_code == GONE:
        endpoint_give_up(endpoint, reason="It answered 410, which says that it wants nothing any more.")
    elif endpoint.failing_since <= moment - FAILED_FOR:
        endpoint_give_up(endpoint, reason="For five days it has not taken anything.")


def _headers(delivery: Delivery, body: bytes) -> dict[str, str]:
    endpoint, moment = delivery.endpoint, now()
    sealed = [bytes(endpoint.secret_sealed)]
    if endpoint.old_secret_sealed and endpoint.old_secret_until and endpoint.old_secret_until > moment:
        sealed.append(bytes(endpoint.old_secret_sealed))
    timestamp = int(moment.timestamp())
    signatures = []
    for number, one in enumerate(sealed):
        try:
            text = secret_open(one, org_id=endpoint.organisation_id, endpoint_id=endpoint.id)
        except SealBrokenError:
            # An old one that cannot be opened any more is no reason to send nothing.
            if number == 0:
                raise
            continue
        signatures.append(signature(text, event_id=delivery.event_id, timestamp=timestamp, body=body))
    return {
        "content-type": "application/json",
        "user-agent": "Kindling-Webhooks/1",
        "webhook-id": delivery.event_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": " ".join(signatures),
    }
