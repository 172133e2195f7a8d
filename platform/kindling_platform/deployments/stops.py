"""Stops what organisations cannot pay for any more, or do not want to: their own deployments, until a start by hand."""

from kindling_billing.models import Terms
from kindling_billing.terms import terms_get
from kindling_platform.accounts.models import Organisation
from kindling_platform.deployments.budgets import BudgetLeft, budgets_left_map
from kindling_platform.deployments.credit import credit_left_map
from kindling_platform.deployments.models import Deployment
from kindling_platform.deployments.services import deployment_halt

SUSPENDED = "The organisation is suspended."
NO_CREDIT = "The credit is used up. Add credit, then start it again."
NO_LIMIT = "The credit limit is used up. Pay an invoice or ask for a higher limit, then start it again."

NO_BUDGET = {
    "day": "The organisation's budget for today is used up. Raise it or wait for tomorrow (UTC), then start it again.",
    "month": "The organisation's budget for this month is used up. Raise it or wait for the next, then start it again.",
    "total": "The organisation's budget is used up. Raise it, then start it again.",
}


def deployments_stop_unpaid() -> list[str]:
    """Stop the running deployments of every organisation that has nothing left, or is suspended; gives their ids.

    Nothing left is said of credit and of each budget of the organisation's own.
    """
    rows = Deployment.objects.filter(
        desired_state=Deployment.Desired.RUNNING, organisation__is_operator=False
    )
    running = list(rows.select_related("organisation").order_by("id"))
    owner_ids = {row.organisation_id for row in running}
    left, budgets = credit_left_map(owner_ids=owner_ids), budgets_left_map(owner_ids=owner_ids)
    stopped = []
    for row in running:
        owner_id = row.organisation_id
        reason = _reason(row.organisation, left[owner_id], budgets.get(owner_id))
        if reason and deployment_halt(deployment_id=row.id, reason=reason):
            stopped.append(row.id)
    return stopped


def _reason(org: Organisation, left_picousd: int, budget: BudgetLeft | None) -> str:
    if org.suspended_at is not None:
        return SUSPENDED
    if left_picousd > 0:
        return NO_BUDGET[budget.period] if budget and budget.left_picousd <= 0 else ""
    terms = terms_get(owner_id=org.id)
    if terms.suspended_reason:
        return terms.suspended_reason
    return NO_LIMIT if terms.mode == Terms.Mode.POSTPAID else NO_CREDIT
