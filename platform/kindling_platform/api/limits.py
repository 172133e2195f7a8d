"""How limits look in JSON: rates as numbers, budgets as dollars in text; null is no limit."""

from typing import Any

from rest_framework import serializers as s

from kindling_billing.money import usd_to_pico
from kindling_platform.api.money import usd
from kindling_platform.api.strict import StrictShape
from kindling_platform.common.errors import KindlingError
from kindling_platform.keys.limits import BUDGETS, RATES
from kindling_platform.keys.models import LimitSet

USD = {f"{name.removesuffix('_picousd')}_usd": name for name in BUDGETS}
MOST_DIGITS = 40


COUNTED = (
    "An organisation's own budgets count requests and the GPU time of its deployments, and stop both;"
    " those of members and keys count requests alone."
)


class LimitsSetShape(StrictShape):
    told = ("scope", "target")
    requests_per_minute = s.IntegerField(required=False, allow_null=True)
    prompt_tokens_per_minute = s.IntegerField(required=False, allow_null=True)
    uncached_tokens_per_minute = s.IntegerField(required=False, allow_null=True)
    generated_tokens_per_minute = s.IntegerField(required=False, allow_null=True)
    concurrent_requests = s.IntegerField(required=False, allow_null=True)
    budget_day_usd = s.CharField(
        required=False, allow_null=True, max_length=MOST_DIGITS, help_text=f"A day of UTC. {COUNTED}"
    )
    budget_month_usd = s.CharField(required=False, allow_null=True, max_length=MOST_DIGITS)
    budget_total_usd = s.CharField(required=False, allow_null=True, max_length=MOST_DIGITS)
    alert_percents = s.ListField(
        child=s.IntegerField(),
        required=False,
        max_length=5,
        help_text="Shares of a budget that are told by mail.",
    )


class LimitsShape(LimitsSetShape):
    scope = s.ChoiceField(choices=["organisation", "member", "key"])
    target = s.CharField(help_text="The id of whom the limits bind.")


def limits_row(limits: LimitSet) -> dict[str, Any]:
    """A set of limits as `LimitsShape` describes it."""
    budgets = {name: getattr(limits, column) for name, column in USD.items()}
    return {
        "scope": str(limits.scope),
        "target": limits.target_id,
        **{name: getattr(limits, name) for name in RATES},
        **{name: None if amount is None else usd(amount) for name, amount in budgets.items()},
        "alert_percents": limits.alert_percents,
    }


def limits_asked(data: Any) -> tuple[dict[str, int | None], list[int] | None]:
    """The limits that a body sets, by the names of their columns, and its alerts if it has any.

    Raises:
        KindlingError: `limit_invalid` for what is no amount; what the shape refuses is a 422.
    """
    asked = LimitsSetShape(data=data)
    asked.is_valid(raise_exception=True)
    given = dict(asked.validated_data)
    percents = given.pop("alert_percents", None)
    return {
        USD.get(str(name), str(name)): _column(str(name), value) for name, value in given.items()
    }, percents


def _column(name: str, value: Any) -> int | None:
    if value is None or name not in USD:
        return value  # type: ignore[no-any-return]  # the shape has made it a number
    try:
        return usd_to_pico(value)
    except ValueError as error:
        raise KindlingError(
            "limit_invalid", "A budget is an amount of dollars, such as 20.", param=name
        ) from error
