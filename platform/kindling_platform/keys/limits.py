"""Sets and reads the limits of an organisation, its members and its keys."""

from collections.abc import Iterable, Mapping, Sequence

from django.db import transaction
from django.db.models import Q

from kindling_billing.limits import MOST
from kindling_billing.money import PICO_PER_USD
from kindling_platform.accounts.models import Membership, Organisation
from kindling_platform.audit.services import audit_record
from kindling_platform.common.actors import Actor
from kindling_platform.common.errors import KindlingError, not_found
from kindling_platform.keys.models import ApiKey, BudgetAlert, LimitSet
from kindling_platform.keys.selectors import key_get

RATES = (
    "requests_per_minute",
    "prompt_tokens_per_minute",
    "uncached_tokens_per_minute",
    "generated_tokens_per_minute",
    "concurrent_requests",
)
BUDGETS = ("budget_day_picousd", "budget_month_picousd", "budget_total_picousd")
PERIODS = dict(zip(BUDGETS, ("^[0-9]{8}$", "^[0-9]{6}$", "^total$"), strict=True))
MOST_BUDGET_PICOUSD = 1_000_000 * PICO_PER_USD
MOST_ALERTS = 5


def limits_get(*, org: Organisation, member_id: str = "", key_id: str = "") -> LimitSet:
    """The limits of a key, a member or, without either, the organisation; all open when none were set.

    Raises:
        KindlingError: `not_found` for a key or a member of somebody else.
    """
    target = _target(org, member_id, key_id)
    found: LimitSet | None = LimitSet.objects.for_org(org).filter(**target).first()
    return found or LimitSet(organisation=org, **target)


@transaction.atomic
def limits_set(
    *,
    org: Organisation,
    values: Mapping[str, int | None],
    actor: Actor,
    alert_percents: Sequence[int] | None = None,
    member_id: str = "",
    key_id: str = "",
    by_operator: bool = False,
) -> LimitSet:
    """Replace the named limits and keep the others; the gateway follows within a second.

    An organisation's rates are the operator's to set, its budgets are its own.

    Raises:
        KindlingError: `not_found`, `limit_invalid`, `limit_unknown`, `operator_only`.
    """
    target = _target(org, member_id, key_id)
    for name, value in values.items():
        _check(name, value)
    whole_organisation = not (member_id or key_id)
    if whole_organisation and not by_operator and any(name in RATES for name in values):
        text = "The rates of an organisation are set by the operator of this platform. Set its budgets here."
        raise KindlingError("operator_only", text, 403)
    percents = None if alert_percents is None else _percents(alert_percents)
    LimitSet.objects.bulk_create([LimitSet(organisation=org, **target)], ignore_conflicts=True)
    row: LimitSet = LimitSet.objects.for_org(org).select_for_update(of=("self",)).get(**target)
    named = [*values, *([] if percents is None else ["alert_percents"])]
    before, had = _shown(row, named), {name: getattr(row, name) for name in BUDGETS}
    for name, value in values.items():
        setattr(row, name, value)
    if percents is not None:
        row.alert_percents = percents
    row.save()
    if changed := [name for name in BUDGETS if getattr(row, name) != had[name]]:
        # Another budget, another half of it; what was told of those that stay is not told again.
        BudgetAlert.objects.filter(_periods_of(changed), limit_set=row).delete()
    audit_record(
        actor=actor, action="limits.set", target=row.target_id, organisation_id=org.id,
        before=before, after=_shown(row, named),
    )  # fmt: skip
    return row


def limits_are_raised(had: LimitSet, values: Mapping[str, int | None]) -> bool:
    """Whether some of these values allow more than there is now; none is more than any."""
    for name, value in values.items():
        before: int | None = getattr(had, name, None)
        if before is not None and (value is None or value > before):
            return True
    return False


def budget_list(*, org_ids: Sequence[str] | None = None) -> list[LimitSet]:
    """Limits with a budget, of these organisations or of all."""
    rows = LimitSet.objects.exclude(
        budget_day_picousd=None, budget_month_picousd=None, budget_total_picousd=None
    )
    if org_ids is not None:
        rows = rows.filter(organisation_id__in=org_ids)
    return list(rows.order_by("id"))


def _shown(row: LimitSet, names: Iterable[str]) -> dict[str, str | None]:
    """Named limits as the audit log shows them; null is none."""
    values = {name: getattr(row, name) for name in names}
    return {name: None if value is None else str(value) for name, value in values.items()}


def _periods_of(budgets: Iterable[str]) -> Q:
    """The alerts of these budgets, by how their periods are written."""
    found = Q()
    for name in budgets:
        found |= Q(period__regex=PERIODS[name])
    return found


def _target(org: Organisation, member_id: str, key_id: str) -> dict[str, str | None]:
    if key_id:
        key: ApiKey = key_get(org=org, key_id=key_id)
        return {"key_id": key.family_key_id, "member_id": None}
    if member_id and not Membership.objects.filter(organisation=org, user_id=member_id).exists():
        raise not_found("member")
    return {"key_id": None, "member_id": member_id or None}


def _check(name: str, value: int | None) -> None:
    if name not in (*RATES, *BUDGETS):
        raise KindlingError("limit_unknown", f"There is no limit {name[:80]!r}.", param=name[:80])
    if value is None:
        return
    if value < 1:
        text = (
            "A limit is more than nothing; leave it empty for none, and revoke a key that shall not be used."
        )
        raise KindlingError("limit_invalid", text, param=name)
    if name in RATES and value > MOST:
        raise KindlingError(
            "limit_invalid", f"A rate is at most {MOST:,}; leave it empty for none.", param=name
        )
    if name in BUDGETS and value > MOST_BUDGET_PICOUSD:
        most = f"${MOST_BUDGET_PICOUSD // PICO_PER_USD:,}"
        raise KindlingError(
            "limit_invalid", f"A budget is at most {most}; leave it empty for none.", param=name
        )


def _percents(values: Sequence[int]) -> list[int]:
    found = sorted(set(values))
    if len(found) > MOST_ALERTS or any(not 1 <= value <= 100 for value in found):
        text = f"Up to {MOST_ALERTS} shares of the budget, each from 1 to 100 per cent."
        raise KindlingError("limit_invalid", text, param="alert_percents")
    return found
