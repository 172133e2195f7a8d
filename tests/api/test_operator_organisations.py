"""Organisations, their credit, plans and terms as the operator's programs see and change them."""

import threading
from datetime import timedelta

import pytest
from django.db import connection

from kindling_billing.models import CreditGrant
from kindling_billing.selectors import balance_get, drift_list, ledger_sum
from kindling_billing.terms import owner_suspend
from kindling_gpu_time import gpu_price
from kindling_people import ApiClient, Customer, make_customer, make_model, make_operator
from kindling_platform.audit.models import AuditEvent
from kindling_platform.common.clock import now
from kindling_platform.deployments.services import deployment_ensure
from kindling_platform.keys.services import key_create

DOLLAR = 10**12
GIFT = {"amount_usd": "25.50", "memo": "For the outage"}
ALL = "operator/organisations"


@pytest.fixture
def till(operator: Customer) -> ApiClient:
    return till_of(operator)


def till_of(operator: Customer) -> ApiClient:
    """A client with a key named till."""
    scopes = ["operator", "manage"]
    _, text = key_create(org=operator.org, name="till", scopes=scopes, actor=operator.actor, may_operate=True)
    return ApiClient(HTTP_AUTHORIZATION=f"Bearer {text}")


def give(till: ApiClient, customer: Customer, key: str = "a", **changes):
    return till.call(
        "post", f"{ALL}/{customer.org.id}/grants", GIFT | changes, headers={"Idempotency-Key": key}
    )


def refusal(reply) -> tuple[int, str]:
    return reply.status_code, reply.json()["error"]["code"]


@pytest.mark.django_db
class TestOrganisations:
    def test_they_are_found_with_balance_and_state(self, ada: Customer, bob: Customer, till: ApiClient):
        owner_suspend(owner_id=bob.org.id, reason="Invoice 2026-000001 is not paid.")
        rows = {row["id"]: row for row in till.call("get", ALL).json()["data"]}
        assert rows[ada.org.id]["state"] == "active"
        assert rows[ada.org.id]["balance_usd"] == "1.00"
        assert rows[bob.org.id]["state"] == "unpaid"
        (found,) = till.call("get", f"{ALL}?q={ada.org.slug[:5].upper()}").json()["data"]
        assert found["id"] == ada.org.id
        assert till.call("get", f"{ALL}?q=nobody").json()["data"] == []

    def test_they_come_in_pages(self, ada: Customer, bob: Customer, till: ApiClient):
        first = till.call("get", f"{ALL}?limit=2").json()
        rest = till.call("get", f"{ALL}?limit=2&cursor={first['next_cursor']}").json()
        ids = [row["id"] for row in first["data"] + rest["data"]]
        assert (len(ids), len(set(ids)), rest["next_cursor"]) == (3, 3, None)

    def test_one_says_where_it_stands(self, ada: Customer, till: ApiClient):
        row = till.call("get", f"{ALL}/{ada.org.id}").json()
        assert (row["slug"], row["members"], row["spendable_usd"]) == (ada.org.slug, 1, "1.00")
        assert row["month"]["requests"] == 0
        owner_suspend(owner_id=ada.org.id, reason="Invoice 2026-000001 is not paid.")
        row = till.call("get", f"{ALL}/{ada.org.id}").json()
        assert (row["state"], row["unpaid_reason"]) == ("unpaid", "Invoice 2026-000001 is not paid.")
        assert row["spendable_usd"] == "0.00"

    @pytest.mark.parametrize("query", ["?q=%00", f"?q={'x' * 121}", "?limit=0", "?cursor=x"])
    def test_what_cannot_be_asked_is_refused(self, till: ApiClient, query: str):
        assert till.call("get", ALL + query).status_code == 400

    @pytest.mark.parametrize("organisation_id", ["org_none", "%00", "x" * 300])
    def test_others_do_not_exist(self, till: ApiClient, organisation_id: str):
        reply = till.call("get", f"{ALL}/{organisation_id}")
        assert refusal(reply) in {(404, "not_found"), (400, "value_invalid")}

    def test_suspending_and_lifting_name_the_key(self, ada: Customer, till: ApiClient):
        path = f"{ALL}/{ada.org.id}"
        reply = till.call("post", f"{path}/suspend", {"reason": "Their card was stolen."})
        assert (reply.status_code, reply.json()["state"]) == (200, "suspended")
        assert reply.json()["suspended_reason"] == "Their card was stolen."
        assert refusal(ada.client().call("post", "keys", {"name": "x"})) == (412, "account_suspended")
        reply = till.call("post", f"{path}/resume", {"reason": "It was found."})
        assert (reply.json()["state"], reply.json()["suspended_reason"]) == ("active", "")
        rows = AuditEvent.objects.filter(target=ada.org.id, actor_label="key till")
        assert {(row.action, row.actor_label, row.data["reason"]) for row in rows} == {
            ("organisation.suspended", "key till", "Their card was stolen."),
            ("organisation.resumed", "key till", "It was found."),
        }

    def test_it_needs_a_reason_and_spares_the_operator(
        self, ada: Customer, operator: Customer, till: ApiClient
    ):
        for body in ({}, {"reason": ""}, {"reason": " "}, {"reason": "x" * 301}):
            reply = till.call("post", f"{ALL}/{ada.org.id}/suspend", body)
            assert refusal(reply) == (422, "validation_failed")
        reply = till.call("post", f"{ALL}/{operator.org.id}/suspend", {"reason": "Why not."})
        assert refusal(reply) == (409, "operator_organisation")


@pytest.mark.django_db
class TestGrants:
    def test_credit_is_given_once_for_a_key(self, ada: Customer, till: ApiClient):
        first, again = give(till, ada), give(till, ada)
        assert (first.status_code, again.status_code) == (201, 200)
        assert again["Idempotent-Replayed"] == "true"
        assert first.json() == again.json()
        assert first.json()["amount_usd"] == "25.50"
        assert balance_get(owner_id=ada.org.id).picousd == DOLLAR + 2550 * DOLLAR // 100
        (event,) = AuditEvent.objects.filter(
            target=ada.org.id, action="credit.granted", actor_label="key till"
        )
        assert event.data["memo"] == "For the outage"
        assert give(till, ada, "b").status_code == 201
        rows = till.call("get", f"{ALL}/{ada.org.id}/grants").json()["data"]
        assert [row["memo"] for row in rows] == ["For the outage", "For the outage", "Starting credit"]

    @pytest.mark.parametrize("changes", [{"amount_usd": "25.51"}, {"memo": "Another"}])
    def test_a_key_is_for_one_credit(self, ada: Customer, till: ApiClient, changes: dict):
        give(till, ada)
        assert refusal(give(till, ada, **changes)) == (400, "idempotency_key_reused")
        assert CreditGrant.objects.filter(owner_id=ada.org.id).count() == 2

    def test_and_for_one_organisation(self, ada: Customer, bob: Customer, till: ApiClient):
        give(till, ada)
        assert refusal(give(till, bob)) == (400, "idempotency_key_reused")
        assert balance_get(owner_id=bob.org.id).picousd == DOLLAR

    @pytest.mark.parametrize("key", ["", "x" * 256, "ä"])
    def test_without_a_key_none_is_given(self, ada: Customer, till: ApiClient, key: str):
        assert refusal(give(till, ada, key)) == (400, "idempotency_key_invalid")

    @pytest.mark.parametrize(
        ("changes", "code"),
        [
            ({"amount_usd": "0"}, "amount_invalid"),
            ({"amount_usd": "-1"}, "amount_invalid"),
            ({"amount_usd": "1e18"}, "amount_invalid"),
            ({"amount_usd": "NaN"}, "amount_invalid"),
            ({"amount_usd": "0.0000000000001"}, "amount_invalid"),
            ({"memo": ""}, "validation_failed"),
            ({"memo": "  "}, "validation_failed"),
            ({"expires_at": "2020-01-01T00:00:00Z"}, "expiry_invalid"),
        ],
    )
    def test_impossible_credit_is_refused(self, ada: Customer, till: ApiClient, changes: dict, code: str):
        assert give(till, ada, **changes).json()["error"]["code"] == code
        assert balance_get(owner_id=ada.org.id).picousd == DOLLAR

    def test_credit_may_expire(self, ada: Customer, till: ApiClient):
        until = (now() + timedelta(days=30)).replace(microsecond=0)
        made = give(till, ada, expires_at=until.isoformat()).json()
        assert made["expires_at"] == until.isoformat().replace("+00:00", "Z")
        assert give(till, ada, expires_at=until.isoformat()).status_code == 200
        assert refusal(give(till, ada)) == (400, "idempotency_key_reused")


@pytest.mark.django_db(transaction=True)
def test_four_who_ask_at_once_with_one_key_give_once():
    till, ada = till_of(make_operator()), make_customer("ada")
    statuses: list[int] = []
    start = threading.Barrier(4)

    def ask() -> None:
        start.wait(timeout=60)
        try:
            statuses.append(give(till, ada).status_code)
        finally:
            connection.close()

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert sorted(statuses) == [200, 200, 200, 201]
    assert balance_get(owner_id=ada.org.id).picousd == DOLLAR + 2550 * DOLLAR // 100
    assert (ledger_sum(), drift_list()) == (0, [])


@pytest.mark.django_db
class TestTerms:
    def test_terms_change_in_part(self, ada: Customer, till: ApiClient):
        path = f"{ALL}/{ada.org.id}/terms"
        before = till.call("get", path).json()
        assert (before["mode"], before["credit_limit_usd"], before["net_days"]) == ("prepaid", "0.00", 14)
        reply = till.call("patch", path, {"mode": "postpaid", "credit_limit_usd": "500"})
        assert reply.status_code == 200, reply.content
        assert reply.json() == before | {
            "mode": "postpaid", "credit_limit_usd": "500.00", "credit_limit_picousd": str(500 * DOLLAR),
        }  # fmt: skip
        (event,) = AuditEvent.objects.filter(target=ada.org.id, action="terms.changed")
        assert (event.actor_label, event.data["after"]["mode"]) == ("key till", "postpaid")

    @pytest.mark.parametrize(
        ("body", "code"),
        [
            ({"mode": "never"}, "terms_invalid"),
            ({"credit_limit_usd": "-1"}, "amount_invalid"),
            ({"credit_limit_usd": "1000001"}, "amount_invalid"),
            ({"credit_limit_usd": "much"}, "amount_invalid"),
            ({"net_days": 121}, "validation_failed"),
            ({"tax_basis_points": 10_001}, "validation_failed"),
        ],
    )
    def test_impossible_terms_are_refused(self, ada: Customer, till: ApiClient, body: dict, code: str):
        reply = till.call("patch", f"{ALL}/{ada.org.id}/terms", body)
        assert reply.json()["error"]["code"] == code

    def test_a_plan_is_made_and_held(self, ada: Customer, till: ApiClient):
        plan = till.call("post", "operator/plans", {"name": "Partners"}).json()
        assert refusal(till.call("post", "operator/plans", {"name": "Partners"})) == (400, "plan_taken")
        path = f"{ALL}/{ada.org.id}/plans"
        assert till.call("post", path, {"plan_id": plan["id"]}).status_code == 201
        (listed,) = till.call("get", "operator/plans").json()["data"]
        assert listed["organisations"] == [ada.org.id]
        later = (now() + timedelta(days=3)).isoformat()
        assert till.call("post", path, {"plan_id": "", "valid_from": later}).status_code == 201
        rows = till.call("get", path).json()["data"]
        assert [row["plan_id"] for row in rows] == ["", plan["id"]]
        assert {row["created_by"] for row in rows} == {"key till"}
        assert refusal(till.call("post", path, {"plan_id": "plan_none"})) == (400, "plan_unknown")
        past = {"plan_id": "", "valid_from": "2026-01-01T00:00:00Z"}
        assert refusal(till.call("post", path, past)) == (400, "valid_from_past")


@pytest.mark.django_db
class TestLimits:
    def test_rates_and_budgets_are_the_operators_to_set(self, ada: Customer, till: ApiClient):
        path = f"{ALL}/{ada.org.id}/limits"
        before = till.call("get", path).json()
        assert (before["requests_per_minute"], before["budget_month_usd"]) == (None, None)
        reply = till.call("patch", path, {"requests_per_minute": 60, "budget_month_usd": "20.50"})
        assert reply.status_code == 200, reply.content
        assert reply.json() == before | {"requests_per_minute": 60, "budget_month_usd": "20.50"}
        assert ada.client().call("get", "limits").json() == reply.json()
        assert refusal(ada.client().call("patch", "limits", {"requests_per_minute": 600})) == (
            403,
            "operator_only",
        )
        reply = till.call("patch", path, {"budget_month_usd": None})
        assert (reply.json()["requests_per_minute"], reply.json()["budget_month_usd"]) == (60, None)
        event = AuditEvent.objects.filter(action="limits.set").order_by("created_at")[0]
        assert (event.actor_label, event.organisation_id) == ("key till", ada.org.id)
        assert event.data["after"]["requests_per_minute"] == "60"

    @pytest.mark.parametrize(
        ("body", "code"),
        [
            ({"requests_per_minute": 0}, "limit_invalid"),
            ({"requests_per_minute": 10**18}, "limit_invalid"),
            ({"requests_per_minute": "many"}, "validation_failed"),
            ({"budget_day_usd": "-1"}, "limit_invalid"),
            ({"budget_day_usd": "NaN"}, "limit_invalid"),
            ({"alert_percents": [101]}, "limit_invalid"),
        ],
    )
    def test_impossible_limits_are_refused(self, ada: Customer, till: ApiClient, body: dict, code: str):
        reply = till.call("patch", f"{ALL}/{ada.org.id}/limits", body)
        assert reply.json()["error"]["code"] == code
        assert till.call("get", f"{ALL}/{ada.org.id}/limits").json()["requests_per_minute"] is None


@pytest.mark.django_db
def test_everybodys_deployments_are_told_with_their_owners(
    ada: Customer, operator: Customer, till: ApiClient
):
    model = make_model(operator)
    gpu_price(model.id, since=now())
    for customer in (ada, operator):
        deployment_ensure(org=customer.org, model=model, name="mine", actor=customer.actor)
    rows = till.call("get", "operator/deployments").json()["data"]
    assert {row["organisation"] for row in rows} == {ada.org.slug, operator.org.slug}
    (row,) = till.call("get", f"operator/deployments?organisation={ada.org.slug}").json()["data"]
    assert (row["organisation_id"], row["model"], row["replicas"]) == (ada.org.id, model.ref, [])
    assert till.call("get", "operator/deployments?organisation=nobody").json()["data"] == []
