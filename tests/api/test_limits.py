"""Limits over the API: who may set which, what is kept, and what makes no sense."""

import pytest

from kindling_people import Customer
from kindling_platform.audit.models import AuditEvent
from kindling_platform.keys.limits import limits_get
from kindling_platform.keys.models import BudgetAlert, LimitSet

pytestmark = pytest.mark.django_db


def key_id(customer: Customer) -> str:
    return str(customer.client().call("get", "me").json()["key_id"])


def test_a_key_is_limited_bit_by_bit(ada: Customer):
    client, path = ada.client(), f"keys/{key_id(ada)}/limits"
    assert client.call("get", path).json()["requests_per_minute"] is None
    client.call(
        "patch", path, {"requests_per_minute": 60, "budget_month_usd": "20", "alert_percents": [90, 50]}
    )
    seen = client.call("patch", path, {"budget_day_usd": "0.5", "requests_per_minute": None}).json()
    assert (seen["scope"], seen["requests_per_minute"]) == ("key", None)
    assert (seen["budget_day_usd"], seen["budget_month_usd"], seen["budget_total_usd"]) == (
        "0.50",
        "20.00",
        None,
    )
    assert seen["alert_percents"] == [50, 90]
    assert client.call("get", path).json() == seen
    row = LimitSet.objects.get()
    assert (row.budget_day_picousd, row.budget_month_picousd) == (5 * 10**11, 2 * 10**13)
    events = AuditEvent.objects.filter(action="limits.set")
    assert [event.data for event in events.order_by("id")][1] == {
        "before": {"budget_day_picousd": None, "requests_per_minute": "60"},
        "after": {"budget_day_picousd": str(5 * 10**11), "requests_per_minute": None},
    }


def test_an_organisation_sets_its_budgets_and_the_operator_its_rates(ada: Customer, operator: Customer):
    assert ada.browser().call("patch", "limits", {"budget_total_usd": "100"}).status_code == 200
    reply = ada.browser().call("patch", "limits", {"requests_per_minute": 10**9})
    assert (reply.status_code, reply.json()["error"]["code"]) == (403, "operator_only")
    assert limits_get(org=ada.org).requests_per_minute is None


def test_a_member_is_limited_by_those_who_run_the_team(ada: Customer):
    path = f"members/{ada.user.id}/limits"
    assert ada.browser().call("patch", path, {"concurrent_requests": 3}).json()["target"] == ada.user.id
    ada.user.memberships.update(role="developer")
    assert ada.browser().call("patch", path, {"concurrent_requests": 99}).status_code == 403
    assert ada.browser().call("get", path).json()["concurrent_requests"] == 3


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"requests_per_minute": 0}, 400),
        ({"requests_per_minute": -1}, 400),
        ({"requests_per_minute": 10**13}, 400),
        ({"requests_per_minute": "many"}, 422),
        ({"budget_day_usd": "0"}, 400),
        ({"budget_day_usd": "nan"}, 400),
        ({"budget_day_usd": "1e9"}, 400),
        ({"budget_day_usd": "0.0000000000001"}, 400),
        ({"alert_percents": [0]}, 400),
        ({"alert_percents": [101]}, 400),
        ({"alert_percents": [1, 2, 3, 4, 5, 6]}, 422),
    ],
)
def test_what_makes_no_sense_is_refused(ada: Customer, body: dict, status: int):
    reply = ada.client().call("patch", f"keys/{key_id(ada)}/limits", body)
    assert reply.status_code == status, reply.content
    assert not LimitSet.objects.exists()


def test_another_budget_is_told_about_anew(ada: Customer):
    path = f"keys/{key_id(ada)}/limits"
    ada.client().call("patch", path, {"budget_total_usd": "1"})
    limits = LimitSet.objects.get()
    BudgetAlert.objects.create(
        organisation=ada.org, limit_set=limits, period="total", percent=50, budget_picousd=1, spent_picousd=1
    )
    BudgetAlert.objects.create(
        organisation=ada.org, limit_set=limits, period="202601", percent=50, budget_picousd=1, spent_picousd=1
    )
    for same in ({"requests_per_minute": 5}, {"budget_total_usd": "1.00"}, {"alert_percents": [50]}):
        ada.client().call("patch", path, same)
    assert BudgetAlert.objects.count() == 2
    ada.client().call("patch", path, {"budget_total_usd": "2"})
    assert [alert.period for alert in BudgetAlert.objects.all()] == ["202601"]  # told of a month already
    event = AuditEvent.objects.filter(action="limits.set").order_by("-created_at").all()[1]
    assert (event.data["before"], event.data["after"]) == (
        {"alert_percents": "[50, 80, 100]"},
        {"alert_percents": "[50]"},
    )
