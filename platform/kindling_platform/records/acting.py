"""What the operator does about a record that waits, by its kind and the action's name."""

from collections.abc import Callable
from uuid import UUID

from kindling_platform.accounts import decisions, treasury
from kindling_platform.common.actors import Actor
from kindling_platform.common.errors import KindlingError, not_found
from kindling_platform.deployments.parked_hours import parked_hour_dismiss
from kindling_platform.records.kinds import kind_get
from kindling_platform.usage.parked import parked_dismiss, parked_release


def record_act(*, kind: str, record_id: str, action: str, note: str, actor: Actor) -> str:
    """Do what an action of `Kind.actions` says; a sentence says what was done.

    Raises:
        KindlingError: `not_found`, `note_missing`, `event_still_refused`, and what keeps the action from being done.
    """
    if action not in kind_get(kind).actions:
        raise not_found("action for such a record")
    return ACTIONS[kind, action](record_id, note, actor)


def _release(record_id: str, _note: str, actor: Actor) -> str:
    parked_release(request_id=_uuid(record_id), actor=actor)
    return "It is billed."


def _dismiss(record_id: str, note: str, actor: Actor) -> str:
    parked_dismiss(request_id=_uuid(record_id), note=note, actor=actor)
    return "Nobody is billed for it. The audit log keeps the record."


def _gpu_dismiss(record_id: str, note: str, actor: Actor) -> str:
    if not (record_id.isascii() and record_id.isdigit() and len(record_id) < 19):
        raise not_found("parked GPU hour")
    parked_hour_dismiss(hour_id=int(record_id), note=note, actor=actor)
    return "Nobody is billed for this hour."


def _refund_credit(record_id: str, _note: str, actor: Actor) -> str:
    decisions.failed_refund_credit(refund_id=record_id, actor=actor)
    return "The customer has the money as credit."


def _refund_paid(record_id: str, note: str, actor: Actor) -> str:
    decisions.failed_refund_pay(refund_id=record_id, note=note, actor=actor)
    return "It is noted as paid."


def _event_retry(record_id: str, _note: str, actor: Actor) -> str:
    receipt = treasury.event_try_again(event_id=record_id, actor=actor)
    if receipt.state != "applied":
        raise KindlingError("event_still_refused", "The books still cannot take it; see the reason.", 409)
    return "It is booked."


def _event_close(record_id: str, note: str, actor: Actor) -> str:
    decisions.event_put_aside(event_id=record_id, note=note, actor=actor)
    return "The event is closed."


def _request_retry(record_id: str, _note: str, actor: Actor) -> str:
    decisions.request_try_again(call_id=record_id, actor=actor)
    return "It is tried again now."


def _request_close(record_id: str, note: str, actor: Actor) -> str:
    decisions.request_put_aside(call_id=record_id, note=note, actor=actor)
    return "The request is closed."


def _uuid(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError as error:
        raise not_found("record") from error


ACTIONS: dict[tuple[str, str], Callable[[str, str, Actor], str]] = {
    ("usage", "release"): _release,
    ("usage", "dismiss"): _dismiss,
    ("gpu", "dismiss"): _gpu_dismiss,
    ("refunds", "credit"): _refund_credit,
    ("refunds", "paid"): _refund_paid,
    ("events", "retry"): _event_retry,
    ("events", "close"): _event_close,
    ("requests", "retry"): _request_retry,
    ("requests", "close"): _request_close,
}
