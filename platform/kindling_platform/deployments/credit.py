"""What organisations have left for machine time: their credit less what replicas ran up since they were last billed.

Their own budgets bound it, too.
"""

from collections.abc import Collection

from django.db.models import Sum

from kindling_billing.gpu_hours import HOUR_MS
from kindling_billing.money import pico_to_usd_text
from kindling_billing.selectors import price_map_current, price_of, spendable_map
from kindling_platform.accounts.models import Organisation
from kindling_platform.catalog.models import Model
from kindling_platform.common.errors import KindlingError
from kindling_platform.deployments.accrued import accrued_map
from kindling_platform.deployments.budgets import budgets_left_map
from kindling_platform.deployments.models import Deployment

PERIODS = {"day": "for today", "month": "for this month", "total": "in all"}


def credit_check(*, org: Organisation, model: Model, replicas: int) -> None:
    """Refuse to start so many replicas for an organisation that cannot pay for an hour of them.

    The operator's own are never refused.

    Raises:
        KindlingError: `gpu_price_missing`, `insufficient_credit`, `budget_exceeded`.
    """
    if org.is_operator or not replicas:
        return
    price = hour_price_picousd(org=org, model=model)
    if not price:
        text = f"GPU time of {model.ref} has no price yet. The operator of this installation publishes one."
        raise KindlingError("gpu_price_missing", text, 409)
    needed = replicas * price
    left = credit_left_map(owner_ids=[org.id])[org.id]
    if left < needed:
        text = (
            f"An hour of {replicas} replica{'' if replicas == 1 else 's'} costs ${pico_to_usd_text(needed, 2)}, and"
            f" ${pico_to_usd_text(max(left, 0), 2)} is left. Add credit first."
        )
        raise KindlingError("insufficient_credit", text, 402)
    _budget_check(org, needed, replicas)


def hour_price_picousd(*, org: Organisation, model: Model) -> int:
    """What this organisation pays for an hour of one replica of its own; 0 while it has no price."""
    version = price_map_current(skus=[model.id], owner_id=org.id).get(model.id)
    return HOUR_MS * price_of(version).gpu_ms if version else 0


def running_hour_picousd(org: Organisation) -> int:
    """What an hour of an organisation's running deployments costs it, in pico-dollars; the operator's cost nothing."""
    if org.is_operator:
        return 0
    running = Deployment.objects.for_org(org).filter(desired_state=Deployment.Desired.RUNNING)
    replicas = dict(running.order_by().values_list("model_id").annotate(Sum("desired_replicas")))
    prices = price_map_current(skus=list(replicas), owner_id=org.id)
    return sum(
        HOUR_MS * price_of(prices[model_id]).gpu_ms * held
        for model_id, held in replicas.items()
        if model_id in prices
    )


def credit_left_map(*, owner_ids: Collection[str]) -> dict[str, int]:
    """What each of these organisations may still spend, in pico-dollars, hours that are not posted yet taken off."""
    spendable, accrued = spendable_map(owner_ids=owner_ids), accrued_map(owner_ids=owner_ids)
    return {
        owner_id: (spendable[owner_id].picousd if owner_id in spendable else 0) - accrued.get(owner_id, 0)
        for owner_id in owner_ids
    }


def _budget_check(org: Organisation, needed: int, replicas: int) -> None:
    budget = budgets_left_map(owner_ids=[org.id]).get(org.id)
    if budget is None or budget.left_picousd >= needed:
        return
    text = (
        f"An hour of {replicas} replica{'' if replicas == 1 else 's'} costs ${pico_to_usd_text(needed, 2)}, and"
        f" ${pico_to_usd_text(max(budget.left_picousd, 0), 2)} is left of your organisation's budget"
        f" {PERIODS[budget.period]}. Raise the budget first."
    )
    raise KindlingError("budget_exceeded", text, 402)
