"""What is agreed with an owner: paying before or after use, limits, suspension, topping up by itself."""

from collections.abc import Collection
from typing import Any

from django.db import transaction

from kindling_billing.amounts import cents_check
from kindling_billing.errors import BillingError
from kindling_billing.models import AutoTopUp, Terms, utc_now
from kindling_billing.money import PICO_PER_USD
from kindling_billing.notices import notice_add
from kindling_billing.trail import trail_note

MAX_LIMIT_PICOUSD = 1_000_000 * PICO_PER_USD
MAX_NET_DAYS = 120
MAX_OWN_REPLICAS = 64
SUSPENDED = "owner.suspended"
RESUMED = "owner.resumed"
PAUSED = "topup.paused"


def terms_get(*, owner_id: str) -> Terms:
    """An owner's terms; those that everybody begins with when nothing was agreed."""
    return Terms.objects.filter(owner_id=owner_id).first() or Terms(owner_id=owner_id, version=0)


def owners_suspended(*, owner_ids: Collection[str]) -> set[str]:
    """Those of some owners whose inference is stopped for an invoice."""
    rows = Terms.objects.filter(owner_id__in=list(owner_ids)).exclude(suspended_at=None)
    return set(rows.values_list("owner_id", flat=True))


@transaction.atomic
def terms_set(*, owner_id: str, **changes: Any) -> Terms:
    """Change terms; fields that are not named stay.

    Fields: mode, credit_limit_picousd, net_days, tax_basis_points, own_replicas, bill_to, tax_id, low_balance_picousd.

    Raises:
        BillingError: `amount_invalid`, `terms_invalid`.
    """
    known = {"mode", "credit_limit_picousd", "net_days", "tax_basis_points", "bill_to", "tax_id"}
    if unknown := set(changes) - known - {"low_balance_picousd", "own_replicas"}:
        raise BillingError("terms_invalid", f"There is no term {min(unknown)!r}.")
    for name in ("credit_limit_picousd", "low_balance_picousd"):
        if not 0 <= changes.get(name, 0) <= MAX_LIMIT_PICOUSD:
            raise BillingError("amount_invalid", "A limit lies between nothing and a million dollars.")
    if changes.get("mode", Terms.Mode.PREPAID) not in Terms.Mode.values:
        raise BillingError("terms_invalid", "The mode is prepaid or postpaid.")
    if not 0 <= changes.get("net_days", 0) <= MAX_NET_DAYS:
        raise BillingError("terms_invalid", f"An invoice is due within {MAX_NET_DAYS} days.")
    if not 0 <= changes.get("tax_basis_points", 0) <= 10_000:
        raise BillingError("terms_invalid", "A tax lies between 0 and 100 percent.")
    if not 0 <= changes.get("own_replicas", 0) <= MAX_OWN_REPLICAS:
        raise BillingError("terms_invalid", f"An organisation deploys {MAX_OWN_REPLICAS} replicas at most.")
    if len(changes.get("bill_to", "")) > 1000 or len(changes.get("tax_id", "")) > 40:
        raise BillingError("terms_invalid", "The address or the tax id is too long.")
    terms = _locked(owner_id)
    was_postpaid = terms.mode == Terms.Mode.POSTPAID
    for name, value in changes.items():
        setattr(terms, name, value)
    if was_postpaid and terms.mode != Terms.Mode.POSTPAID:
        terms.postpaid_until = utc_now()
    return _saved(terms)


@transaction.atomic
def owner_suspend(*, owner_id: str, reason: str) -> bool:
    """Stop an owner's inference, and nothing else, until `owner_resume`; False when it was stopped before."""
    terms = _locked(owner_id)
    if terms.suspended_at is not None:
        return False
    terms.suspended_at, terms.suspended_reason = utc_now(), reason[:200]
    _saved(terms)
    notice_add(
        kind=SUSPENDED, key=f"{owner_id}:{terms.version}", owner_id=owner_id, data={"reason": reason[:200]}
    )
    trail_note(
        action="owner.suspended", owner_id=owner_id, target=owner_id,
        before={"suspended": False}, after={"suspended": True, "reason": terms.suspended_reason},
    )  # fmt: skip
    return True


@transaction.atomic
def owner_resume(*, owner_id: str) -> bool:
    """Let an owner's inference go on; False when it was not stopped."""
    terms = Terms.objects.select_for_update().filter(owner_id=owner_id).exclude(suspended_at=None).first()
    if terms is None:
        return False
    before = {"suspended": True, "reason": terms.suspended_reason}
    terms.suspended_at, terms.suspended_reason = None, ""
    _saved(terms)
    trail_note(
        action="owner.resumed", owner_id=owner_id, target=owner_id, before=before, after={"suspended": False}
    )
    notice_add(kind=RESUMED, key=f"{owner_id}:{terms.version}", owner_id=owner_id)
    return True


@transaction.atomic
def auto_topup_set(
    *, owner_id: str, enabled: bool, threshold_cents: int, amount_cents: int, monthly_cap_cents: int
) -> AutoTopUp:
    """Say when an owner is to be charged by itself, and how much in a month at most; enabling lifts a pause.

    Raises:
        BillingError: `amount_invalid`, `cap_invalid` when a month's cap is below one top-up.
    """
    for name, cents in (
        ("threshold", threshold_cents),
        ("amount", amount_cents),
        ("monthly cap", monthly_cap_cents),
    ):
        cents_check(cents, name=name)
    if monthly_cap_cents < amount_cents:
        raise BillingError("cap_invalid", "The monthly cap must allow at least one top-up.")
    wish, _ = AutoTopUp.objects.update_or_create(
        owner_id=owner_id,
        defaults={
            "enabled": enabled,
            "threshold_cents": threshold_cents,
            "amount_cents": amount_cents,
            "monthly_cap_cents": monthly_cap_cents,
            "paused_reason": "",
            "updated_at": utc_now(),
        },
    )
    return wish


@transaction.atomic
def auto_topup_pause(*, owner_id: str, reason: str) -> bool:
    """Stop charging an owner until they enable it again; False when nothing is on."""
    rows, now = AutoTopUp.objects.filter(owner_id=owner_id, enabled=True, paused_reason=""), utc_now()
    if not rows.update(paused_reason=reason[:200], updated_at=now):
        return False
    notice_add(
        kind=PAUSED, key=f"{owner_id}:{now.isoformat()}", owner_id=owner_id, data={"reason": reason[:200]}
    )
    trail_note(
        action="auto_topup.paused", owner_id=owner_id, target=owner_id,
        before={"paused": False}, after={"paused": True, "reason": reason[:200]},
    )  # fmt: skip
    return True


def _locked(owner_id: str) -> Terms:
    Terms.objects.bulk_create([Terms(owner_id=owner_id)], ignore_conflicts=True)
    return Terms.objects.select_for_update().get(owner_id=owner_id)


def _saved(terms: Terms) -> Terms:
    terms.version += 1
    terms.updated_at = utc_now()
    terms.save()
    return terms
