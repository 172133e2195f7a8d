"""Price plans: prices of an owner's own, from a moment on."""

from datetime import datetime

from django.db import IntegrityError, transaction

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
