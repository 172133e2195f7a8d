"""Price plans: prices of an owner's own, from a moment on."""

from datetime import datetime

from django.db import IntegrityError, transaction
from django.db.models import QuerySet

from kindling_billing.errors import BillingError
from kindling_billing.models import PlanTerm, PricePlan, utc_now


def plan_create(*, name: str, created_by: str = "") -> PricePlan:
    """Make a plan; its prices are published with its id.

    Raises:
        BillingError: `name_invalid`, `plan_taken`.
    """
    name = name.strip()
    if not 0 < len(name) <= 80:
        raise BillingError("name_invalid", "A plan's name has 1 to 80 characters.")
    try:
        with transaction.atomic():
            return PricePlan.objects.create(name=name, created_by=created_by)
    except IntegrityError as error:
        raise BillingError("plan_taken", f"There is a plan {name!r} already.") from error


def plan_assign(
    *, owner_id: str, plan_id: str, valid_from: datetime | None = None, created_by: str = ""
) -> PlanTerm:
    """Put an owner on a plan from a moment on, or with "" on none; earlier terms stay as they are.

    Raises:
        BillingError: `plan_unknown`.
    """
    if plan_id and not PricePlan.objects.filter(id=plan_id).exists():
        raise BillingError("plan_unknown", f"There is no price plan {plan_id[:64]!r}.")
    return PlanTerm.objects.create(
        owner_id=owner_id, plan_id=plan_id, valid_from=valid_from or utc_now(), created_by=created_by
    )


def plan_list() -> QuerySet[PricePlan]:
    """Every price plan by name."""
    return PricePlan.objects.order_by("name")


def plan_term_list(*, owner_id: str) -> QuerySet[PlanTerm]:
    """The plans that an owner was, is and will be on, newest first."""
    return PlanTerm.objects.filter(owner_id=owner_id).order_by("-valid_from", "-id")


def plan_owner_map(*, at: datetime | None = None) -> dict[str, list[str]]:
    """Who is on each plan at a moment, by the plan's id; those on none are absent."""
    rows = PlanTerm.objects.filter(valid_from__lte=at or utc_now())
    owners: dict[str, list[str]] = {}
    for term in rows.order_by("owner_id", "-valid_from", "-id").distinct("owner_id"):
        if term.plan_id:
            owners.setdefault(term.plan_id, []).append(term.owner_id)
    return owners
