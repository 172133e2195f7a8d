"""Tells the people of an organisation, once each, that a share of a budget is spent."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from django.db import transaction
from django.db.models import QuerySet

from kindling_billing.budgets import Spent, day_of, month_of
from kindling_billing.money import pico_to_usd_text
from kindling_platform.accounts.delivery import letter_deliver
from kindling_platform.accounts.models import Membership
from kindling_platform.audit.services import audit_record
from kindling_platform.common.actors import SYSTEM
from kindling_platform.common.clock import now
from kindling_platform.common.jobs import enqueue
from kindling_platform.keys.models import BudgetAlert, LimitSet

WHOSE = {
    "organisation": "your organisation",
    "member": "a member of your organisation",
    "key": "one of your API keys",
}
# Deployments are the organisation's alone, so its budget alone counts what they cost.
COUNTED = {
    True: "Requests and GPU time of your own deployments count.",
    False: "Requests count; GPU time of deployments is the organisation's.",
}
FULL = {
    True: "Requests are refused and your own deployments are stopped until it is raised or a new period begins.",
    False: "Requests are refused until it is raised or a new period begins.",
}
LATER = {
    True: "When it is used up, requests are refused and your own deployments are stopped.",
    False: "When it is used up, requests are refused.",
}
BATCH = 100
MOST_TROUBLE = 300
ALERT_STATES: dict[str, dict[str, Any]] = {
    "": {},
    "waiting": {"sent_at": None, "refused_at": None},
    "refused": {"sent_at": None, "refused_at__isnull": False},
    "sent": {"sent_at__isnull": False},
}


def alerts_note(*, limits: LimitSet, spent: Spent, moment: datetime) -> list[BudgetAlert]:
    """Note every share that was reached; those noted before in the same period are left alone."""
    reached = [
        BudgetAlert(
            organisation_id=limits.organisation_id,
            limit_set=limits,
            period=period,
            percent=percent,
            budget_picousd=budget,
            spent_picousd=used,
        )
        for period, (budget, used) in _periods(limits, spent, moment).items()
        for percent in limits.alert_percents
        if budget and used * 100 >= budget * percent
    ]
    return _insert(limits, reached) if reached else []


def alerts_send() -> int:
    """Send what is noted and not sent; a kill in between sends a letter twice at most.

    Raises:
        OSError: the mail server is away; what was not sent waits.
    """
    sent = 0
    for alert in alert_find(state="waiting").reverse()[:BATCH]:
        subject, body = alert_letter(alert)
        went = letter_deliver(subject=subject, body=body, addresses=_addresses(alert))
        ended = {"sent_at": now()} if went.is_taken else {"refused_at": now() if went.is_refused else None}
        BudgetAlert.objects.filter(id=alert.id).update(**ended, trouble=went.trouble[:MOST_TROUBLE])
        sent += went.is_taken
    return sent


def alert_find(*, state: str = "") -> QuerySet[BudgetAlert]:
    """Alerts whose letters are waiting, refused or sent, or all of them, newest first."""
    rows = BudgetAlert.objects.filter(**ALERT_STATES[state])
    return rows.select_related("organisation", "limit_set__key", "limit_set__member").order_by(
        "-created_at", "-id"
    )


def alert_again(*, alert_id: str) -> bool:
    """Have a letter sent that was refused; False for one that was not."""
    rows = BudgetAlert.objects.filter(id=alert_id, sent_at=None).exclude(refused_at=None)
    return bool(rows.update(refused_at=None))


def alert_letter(alert: BudgetAlert) -> tuple[str, str]:
    """Subject and text of an alert's letter."""
    return _subject(alert), _letter(alert)


def _periods(limits: LimitSet, spent: Spent, moment: datetime) -> Mapping[str, tuple[int | None, int]]:
    return {
        day_of(moment): (limits.budget_day_picousd, spent.day_picousd),
        month_of(moment): (limits.budget_month_picousd, spent.month_picousd),
        "total": (limits.budget_total_picousd, spent.total_picousd),
    }


def _insert(limits: LimitSet, reached: list[BudgetAlert]) -> list[BudgetAlert]:
    known = set(
        BudgetAlert.objects.filter(
            limit_set=limits, period__in={alert.period for alert in reached}
        ).values_list("period", "percent")
    )
    new = [alert for alert in reached if (alert.period, alert.percent) not in known]
    if not new:
        return []
    with transaction.atomic():
        BudgetAlert.objects.bulk_create(new, ignore_conflicts=True)
        for alert in new:
            data = {
                "period": alert.period,
                "percent": alert.percent,
                "spent_picousd": str(alert.spent_picousd),
            }
            audit_record(
                actor=SYSTEM,
                action="budget.reached",
                target=limits.target_id,
                organisation_id=limits.organisation_id,
                data=data,
            )
        enqueue("limits.alerts")
    return new


def _addresses(alert: BudgetAlert) -> list[str]:
    rows = Membership.objects.filter(organisation=alert.organisation, role__in=("owner", "admin", "billing"))
    return list(rows.order_by("id").values_list("user__email", flat=True))


def _subject(alert: BudgetAlert) -> str:
    return f"{alert.percent} % of a budget of {alert.organisation.name} is spent"


def _letter(alert: BudgetAlert) -> str:
    limits = alert.limit_set
    named = (
        limits.key.name if limits.key else limits.member.email if limits.member else alert.organisation.name
    )
    period = (
        "in all"
        if alert.period == "total"
        else "this month"
        if len(alert.period) == len("202601")
        else "today"
    )
    spent, budget = pico_to_usd_text(alert.spent_picousd, 2), pico_to_usd_text(alert.budget_picousd, 2)
    is_whole = limits.scope == LimitSet.Scope.ORGANISATION
    what_then = (FULL if alert.percent >= 100 else LATER)[is_whole]
    return (
        f"Of the budget of {WHOSE[limits.scope]} ({named}), ${budget} {period}, ${spent} are spent."
        f" {COUNTED[is_whole]}\n\n{what_then}\n"
    )
