"""Whether the witnesses of one movement agree, and if not why: pure."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from kindling_billing.comparing.causes import NOTED, WAITS

# Stripe lists a balance transaction with its charge; disputes and slow banks take longer.
MOVES_WITHIN = timedelta(hours=6)
LATE = timedelta(hours=20)
OUR_CALLS = {"waiting": "request_waits", "stuck": "request_stuck"}


@dataclass(slots=True)
class Told:
    """What each witness says of one movement: cents with the sign they have for us, None where it is silent.

    `status` is the provider's word for it, `call_state` the outbox's, `detail` what is known of the trouble.
    """

    id: str
    kind: str
    happened_at: datetime
    owner_id: str = ""
    payment_id: str = ""
    intent_id: str = ""
    stripe_cents: int | None = None
    booked_cents: int | None = None
    moved_cents: int | None = None
    asked_cents: int | None = None
    is_ours: bool = True
    status: str = ""
    call_state: str = ""
    detail: str = ""


def cause_of(told: Told, *, now: datetime) -> str:
    """The code of what is wrong, "" when all witnesses agree."""
    match told.kind:
        case "charge":
            return _charge(told, now)
        case "refund":
            return _refund(told, now)
        case "dispute":
            return _moved(told, now) if told.booked_cents is not None else "not_booked"
        case "request":
            return _request(told, now)
        case _:
            return "moved_only"


def verdict_of(cause: str) -> str:
    """`agrees`, `waits` for what comes by itself, `noted` for what is harmless, else `differs`."""
    if not cause:
        return "agrees"
    return "waits" if cause in WAITS else "noted" if cause in NOTED else "differs"


def _charge(told: Told, now: datetime) -> str:
    if told.stripe_cents is None:
        return "not_paid" if told.status else "not_at_stripe"
    if not told.is_ours:
        return "made_elsewhere"
    if told.booked_cents is None:
        return "not_booked"
    if told.booked_cents != told.stripe_cents:
        return "amount_differs"
    if told.asked_cents is None:
        return "not_asked"
    return "asked_differs" if told.asked_cents != told.stripe_cents else _moved(told, now)


def _refund(told: Told, now: datetime) -> str:
    if told.booked_cents is None and told.status in {"pending", "requires_action"}:
        return "refund_pending"
    if told.status == "failed":
        # What never left, or has come back, must not stand in the books as given.
        return "refund_failed" if told.booked_cents else ""
    if told.booked_cents is None:
        return "not_booked" if told.is_ours else "made_elsewhere"
    if told.booked_cents != told.stripe_cents:
        return "amount_differs"
    if told.asked_cents is None:
        return _moved(told, now) or "refund_elsewhere"
    return "asked_differs" if told.asked_cents != told.stripe_cents else _moved(told, now)


def _moved(told: Told, now: datetime) -> str:
    if told.booked_cents != told.stripe_cents:
        return "amount_differs"
    if told.moved_cents is None:
        return "not_moved_yet" if now - told.happened_at < MOVES_WITHIN else "not_moved"
    return "moved_differs" if told.moved_cents != told.stripe_cents else ""


def _request(told: Told, now: datetime) -> str:
    if told.call_state == "waiting" and now - told.happened_at > LATE:
        return "request_late"
    return OUR_CALLS.get(told.call_state, "")
