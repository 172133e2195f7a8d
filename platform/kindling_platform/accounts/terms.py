"""What the operator agrees with an organisation: a price plan from a day on, paying before or after use, and how many
replicas it may deploy for itself.
"""

from datetime import datetime
from typing import Any

from django.db import transaction

from kindling_billing.models import PlanTerm, PricePlan, Terms
from kindling_billing.plans import plan_assign, plan_create, plan_term_list
from kindling_billing.terms import terms_get, terms_set
from kindling_platform.accounts.models import Organisation
from kindling_platform.accounts.provider import refusals
from kindling_platform.accounts.treasury import wallets_tell
from kindling_platform.audit.services import audit_record
from kindling_platform.common.actors import Actor
from kindling_platform.common.clock import now
from kindling_platform.common.effective import effective_check
from kindling_platform.common.errors import KindlingError

AGREED = ("mode", "credit_limit_picousd", "net_days", "tax_basis_points", "own_replicas")


@transaction.atomic
def price_plan_make(*, name: str, actor: Actor) -> PricePlan:
    """Make a plan without prices; until it has some, those on it pay what everybody pays.

    Raises:
        KindlingError: `name_invalid`, `plan_taken`.
    """
    with refusals():
        plan = plan_create(name=name, created_by=actor.label)
    audit_record(actor=actor, action="plan.created", target=plan.id, data={"name": plan.name})
    return plan


@transaction.atomic
def price_plan_assign(
    *, org: Organisation, plan_id: str, actor: Actor, valid_from: datetime | None = None
) -> PlanTerm:
    """Put an organisation on a plan from a moment on, or with "" on none.

    Raises:
        KindlingError: `plan_unknown`, `valid_from_past`, `valid_from_far`.
    """
    moment = valid_from or now()
    effective_check(moment)
    before = plan_term_list(owner_id=org.id).filter(valid_from__lte=moment).first()
    with refusals():
        term = plan_assign(owner_id=org.id, plan_id=plan_id, valid_from=moment, created_by=actor.label)
    data = {
        "before": before.plan_id if before else "",
        "after": plan_id,
        "valid_from": moment.isoformat(),
    }
    audit_record(actor=actor, action="plan.assigned", target=org.id, organisation_id=org.id, data=data)
    return term


@transaction.atomic
def payment_terms_set(*, org: Organisation, actor: Actor, **changes: Any) -> Terms:
    """Change what is agreed: mode, credit_limit_picousd, net_days, tax_basis_points, own_replicas; others stay.

    Raises:
        KindlingError: `terms_invalid`, `amount_invalid`.
    """
    if unknown := set(changes) - set(AGREED):
        raise KindlingError("terms_invalid", f"There is no term {min(unknown)!r}.")
    before = _agreed(terms_get(owner_id=org.id))
    with refusals():
        terms = terms_set(owner_id=org.id, **changes)
    data = {"before": before, "after": _agreed(terms)}
    audit_record(actor=actor, action="terms.changed", target=org.id, organisation_id=org.id, data=data)
    wallets_tell([org.id])
    return terms


def _agreed(terms: Terms) -> dict[str, str]:
    return {name: str(getattr(terms, name)) for name in AGREED}
