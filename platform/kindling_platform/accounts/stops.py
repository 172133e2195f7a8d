"""Why an organisation's requests are refused, for those who may know it, and what ends it."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from kindling_billing.terms import terms_get
from kindling_platform.accounts.models import Organisation
from kindling_platform.audit.selectors import event_newest


class StopReason(StrEnum):
    """What stops requests; the gateway's codes are `account_suspended` and `account_unpaid`."""

    OPERATOR = "operator"
    UNPAID = "unpaid"


@dataclass(frozen=True, slots=True)
class Stop:
    """A stop that holds; `details` may name invoices, so it is for members and not for whoever holds a key."""

    reason: StopReason
    details: str = ""


@dataclass(frozen=True, slots=True)
class Suspension:
    """A suspension by the operator as the audit log keeps it, for the operator alone; "" for what it has deleted."""

    since: datetime
    reason: str = ""
    by: str = ""


def stop_find(*, org: Organisation) -> Stop | None:
    """What stops an organisation's requests, None while nothing does; the operator's word comes first."""
    if org.suspended_at is not None:
        return Stop(StopReason.OPERATOR)
    terms = terms_get(owner_id=org.id)
    return Stop(StopReason.UNPAID, terms.suspended_reason) if terms.suspended_at is not None else None


def suspension_find(*, org: Organisation) -> Suspension | None:
    """Since when, why and by whom an organisation is suspended; None while it is not, or was deleted."""
    if org.suspended_at is None or org.deleting_at is not None:
        return None
    event = event_newest(org=org, action="organisation.suspended")
    if event is None:
        return Suspension(org.suspended_at)
    return Suspension(org.suspended_at, str(event.data.get("reason", "")), event.actor_label)
