"""The kinds of records that wait for a person, and what may be done about each."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from django.db.models import QuerySet

from kindling_billing.payment_selectors import call_list_undecided, event_find_parked
from kindling_billing.returns import failed_refund_list
from kindling_platform.common.errors import not_found
from kindling_platform.deployments.parked_hours import parked_hour_list
from kindling_platform.usage.selectors import parked_list
from kindling_platform.usage.witnesses import drift_list


@dataclass(frozen=True, slots=True)
class Kind:
    """What waits for the same reason: its rows, the column of their age and that of their ids, and what they tell."""

    key: str
    label: str
    find: Callable[[], QuerySet[Any]]
    order: tuple[str, str]
    told: tuple[str, ...]
    actions: tuple[str, ...] = ()

    @property
    def columns(self) -> tuple[str, ...]:
        """What a table of them has."""
        return (*self.order, *self.told)

    def id_of(self, row: Any) -> str:
        return str(getattr(row, self.order[1]))

    def since_of(self, row: Any) -> Any:
        return getattr(row, self.order[0])

    def owner_of(self, row: Any) -> str:
        """The organisation that a record is about, "" where it names none."""
        if self.key == "refunds":
            return str(row.payment.owner_id)
        return str(getattr(row, "owner_id", "") or getattr(row, "organisation_id", ""))


def kind_get(key: str) -> Kind:
    """A kind by its key.

    Raises:
        KindlingError: `not_found`.
    """
    found = KINDS.get(key)
    if found is None:
        raise not_found("kind of record")
    return found


KINDS: dict[str, Kind] = {
    kind.key: kind
    for kind in (
        Kind(
            "usage", "Usage that could not be billed", parked_list, ("created_at", "request_id"),
            ("source", "reason"), ("release", "dismiss"),
        ),
        Kind(
            "gpu", "GPU time without a price", parked_hour_list, ("created_at", "id"),
            ("organisation_id", "deployment_id", "model_id", "hour", "held_ms", "reason"), ("dismiss",),
        ),
        Kind(
            "refunds", "Refunds that came back", failed_refund_list, ("heard_at", "id"),
            ("payment_id", "amount_cents", "reason"), ("credit", "paid"),
        ),
        Kind(
            "events", "Events the books could not take", event_find_parked, ("heard_at", "id"),
            ("type", "reason"), ("retry", "close"),
        ),
        Kind(
            "requests", "Requests that need a decision", call_list_undecided, ("created_at", "id"),
            ("kind", "owner_id", "subject", "state", "attempts", "trouble_code", "trouble"), ("retry", "close"),
        ),
        Kind(
            "witnesses", "Counts that differ", drift_list, ("found_at", "request_id"),
            ("organisation_id", "kind", "booked", "logged"),
        ),
    )
}  # fmt: skip
