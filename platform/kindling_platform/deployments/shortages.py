"""What leaves an organisation next to nothing to spend, so that its requests are refused: credit, or a budget.

A request is taken only when what is left covers all that it may cost. So the last of it is hardly ever spent, and
requests are refused long before it is.
"""

from dataclasses import dataclass

from kindling_billing.money import PICO_PER_CENT
from kindling_billing.selectors import spendable_map
from kindling_platform.accounts.models import Organisation
from kindling_platform.common.clock import now
from kindling_platform.deployments.budgets import budget_spent_get
from kindling_platform.keys.limits import limits_get

CREDIT = "credit"
# The longest first: while it is used up, a larger budget for a day is of no use.
PERIODS = ("total", "month", "day")


@dataclass(frozen=True, slots=True)
class Shortage:
    """Of what next to nothing is left: `credit`, or the period of a budget; `is_all` when it is nothing at all."""

    of: str
    is_all: bool


def shortage_find(*, org: Organisation) -> Shortage | None:
    """What an organisation is short of: less than a cent of credit, or of a budget less than a hundredth."""
    found = spendable_map(owner_ids=[org.id]).get(org.id)
    credit = found.picousd if found else 0
    if credit < PICO_PER_CENT:
        return Shortage(CREDIT, credit <= 0)
    limits = limits_get(org=org)
    budgets = [(period, getattr(limits, f"budget_{period}_picousd")) for period in PERIODS]
    if not any(budget for _, budget in budgets):
        return None
    spent = budget_spent_get(limits=limits, moment=now(), version=0)
    for period, budget in budgets:
        left = (budget or 0) - getattr(spent, f"{period}_picousd")
        if budget and left * 100 < budget:
            return Shortage(period, left <= 0)
    return None
