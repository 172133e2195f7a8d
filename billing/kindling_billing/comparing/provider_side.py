"""One day as the provider lists it: charges, refunds, disputes, and what its balance did."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from kindling_billing.comparing.judging import Told
from kindling_billing.stripe_api import reading
from kindling_billing.stripe_api.client import StripeApi
from kindling_billing.webhooks.effects import OWNER, PAYMENT, is_ours
from kindling_billing.webhooks.reconciling import FEES

Thing = dict[str, Any]
CONTESTED = {"needs_response", "under_review", "lost"}
PAYOUT = "payout"


@dataclass(slots=True)
class Listed:
    """The day's movements, the balance transactions that each of them names, and those that nothing names."""

    told: dict[str, Told] = field(default_factory=dict)
    moved_by: dict[str, list[str]] = field(default_factory=dict)
    unnamed: dict[str, Thing] = field(default_factory=dict)


def day_read(api: StripeApi, day: date) -> Listed:
    """Everything of one day, page by page.

    Raises:
        ProviderAway, ProviderRefused.
    """
    start = datetime.combine(day, time(), UTC)
    end = start + timedelta(days=1)
    listed = Listed()
    for charge in reading.charge_list_between(api, start, end):
        if charge["status"] == "succeeded":
            _charge_add(listed, charge)
    for refund in reading.refund_list_between(api, start, end):
        _refund_add(listed, refund)
    for dispute in reading.dispute_list_between(api, start, end):
        _dispute_add(listed, dispute)
    named = {id_ for ids in listed.moved_by.values() for id_ in ids}
    for movement in reading.movement_list_between(api, start, end):
        clears = not movement["type"].startswith(PAYOUT) and movement["type"] not in FEES
        if clears and int(movement["amount"]) and movement["id"] not in named:
            listed.unnamed[movement["id"]] = movement
    return listed


def moment_of(thing: Thing) -> datetime:
    """When a thing was made, by the provider's clock."""
    return datetime.fromtimestamp(int(thing["created"]), UTC)


def _charge_add(listed: Listed, charge: Thing) -> None:
    told = _told(charge, "charge", int(charge.get("amount_captured") or charge["amount"]))
    told.intent_id = str(charge.get("payment_intent") or "")
    told.is_ours = is_ours(charge)
    _add(listed, told, [charge.get("balance_transaction")])


def _refund_add(listed: Listed, refund: Thing) -> None:
    failed = refund["status"] in {"failed", "canceled"}
    told = _told(refund, "refund", 0 if failed else -int(refund["amount"]))
    told.intent_id = str(refund.get("payment_intent") or "")
    told.status = "failed" if failed else str(refund["status"])
    told.detail = str(refund.get("failure_reason") or "")
    _add(listed, told, [refund.get("balance_transaction"), refund.get("failure_balance_transaction")])


def _dispute_add(listed: Listed, dispute: Thing) -> None:
    if dispute["status"] not in {*CONTESTED, "won"}:
        return
    told = _told(dispute, "dispute", -int(dispute["amount"]) if dispute["status"] in CONTESTED else 0)
    told.intent_id = str(dispute.get("payment_intent") or "")
    told.status = str(dispute["status"])
    _add(listed, told, [one["id"] for one in dispute.get("balance_transactions") or []])


def _told(thing: Thing, kind: str, cents: int | None) -> Told:
    metadata = thing.get("metadata") or {}
    return Told(
        id=thing["id"],
        kind=kind,
        happened_at=moment_of(thing),
        owner_id=str(metadata.get(OWNER, ""))[:32],
        payment_id=str(metadata.get(PAYMENT, ""))[:32],
        stripe_cents=cents,
    )


def _add(listed: Listed, told: Told, movements: Iterable[Any]) -> None:
    listed.told[told.id] = told
    listed.moved_by[told.id] = [_id(one) for one in movements if one]


def _id(movement: Any) -> str:
    """A balance transaction is named by its id, or given whole."""
    return str(movement["id"] if isinstance(movement, dict) else movement)
