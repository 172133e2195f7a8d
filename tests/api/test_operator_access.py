"""Who reaches the operator's addresses: keys with the scope, owners and admins; and how the scope is given."""

from dataclasses import dataclass
from datetime import date, timedelta

import pytest
from django.db import connection
from django.db.models import QuerySet
from django.test.utils import CaptureQueriesContext

from kindling_billing.models import Invoice, Notice
from kindling_billing.models.prices import Rerating
from kindling_billing.plans import plan_assign, plan_create
from kindling_billing.selectors import price_current
from kindling_people import ApiClient, Customer, make_customer, make_model, make_operator
from kindling_platform.accounts.models import Membership
from kindling_platform.api import operator_urls
from kindling_platform.audit.models import AuditEvent
from kindling_platform.common.clock import now
from kindling_platform.deployments.services import deployment_ensure
from kindling_platform.keys.models import ApiKey
from kindling_platform.keys.services import key_create

pytestmark = pytest.mark.django_db
ROUTES = [
    (method.lower(), str(pattern.pattern).removeprefix("v1/"))
    for pattern in operator_urls.urlpatterns
    for method in pattern.callback.view_class.actions
]
READS = [route for method, route in ROUTES if method == "get"]


@dataclass(frozen=True, slots=True)
class Callers:
    """Clients by whose they are; `values` are what addresses name."""

    operators: tuple[ApiClient, ...]
    customers: tuple[ApiClient, ...]
    unscoped: tuple[ApiClient, ...]
    browser: ApiClient
    values: dict[str, str]

    def path(self, route: str) -> str:
        for name, value in self.values.items():
            route = route.replace(f"<str:{name}>", value)
        return route


@pytest.fixture(scope="module")
def operator(module_rows: None) -> Customer:
    return make_operator()


@pytest.fixture(scope="module")
def ada(module_rows: None) -> Customer:
    return make_customer("ada")


@pytest.fixture(scope="module")
def callers(ada: Customer, operator: Customer) -> Callers:
    model = make_model(operator, "called")
    price = price_current(sku=model.id)
    assert price
    run = Rerating.objects.create(sku=model.id, start=now(), end=now(), reason="A test")
    deployment = deployment_ensure(org=operator.org, model=model, name="called", actor=operator.actor)
    letter = Notice.objects.create(kind="owner.resumed", key="called", owner_id=ada.org.id)
    return Callers(
        operators=(made(operator, "operator", "read"), operator.browser()),
        customers=(ada.client(), ada.browser()),
        unscoped=(operator.client(), made(operator, "operator", "inference")),
        browser=operator.browser(),
        values={
            "organisation_id": ada.org.id, "model_id": model.id, "price_id": price.id, "invoice_id": "inv_none",
            "movement_id": "ch_none", "kind": "usage", "record_id": "018f5a3e-0000-7000-8000-000000000001",
            "action": "release", "rerating_id": str(run.id), "letter_id": f"notice-{letter.id}",
            "deployment_id": deployment.id,
        },
    )  # fmt: skip


def made(customer: Customer, *scopes: str) -> ApiClient:
    """A client with a key that the operator's people made."""
    _, text = key_create(org=customer.org, name="till", scopes=scopes, actor=customer.actor, may_operate=True)
    return ApiClient(HTTP_AUTHORIZATION=f"Bearer {text}")


def operating() -> QuerySet[ApiKey]:
    return ApiKey.objects.filter(scopes__contains=["operator"])


def refusal(reply) -> tuple[int, str]:
    return reply.status_code, reply.json()["error"]["code"]


@pytest.mark.parametrize("route", READS)
def test_the_operator_reads_every_address(callers: Callers, route: str):
    for client in callers.operators:
        reply = client.call("get", callers.path(route))
        assert reply.status_code == 200, reply.content
        assert b"".join(reply) if reply.streaming else reply.json()


@pytest.mark.parametrize(("method", "route"), ROUTES)
def test_others_are_refused(operator: Customer, callers: Callers, method: str, route: str):
    path, body = callers.path(route), None if method == "get" else {}
    for client in callers.customers:
        assert refusal(client.call(method, path, body)) == (404, "not_found")
    assert refusal(ApiClient().call(method, path, body)) == (401, "not_authenticated")
    for client in callers.unscoped:
        assert refusal(client.call(method, path, body)) == (403, "scope_missing")
    Membership.objects.filter(user=operator.user).update(role="developer")
    assert refusal(callers.browser.call(method, path, body)) == (403, "role_insufficient")


@pytest.mark.parametrize(
    "path",
    ["organisations", "organisations?q=a", "invoices", "at-risk", "prices", "plans", "audit", "margins"],
)
def test_lists_take_as_many_queries_whatever_they_list(operator: Customer, path: str):
    client = made(operator, "operator", "read")

    def queries(number: int) -> int:
        customer = make_customer()
        make_model(operator, f"model-{number}")
        plan = plan_create(name=f"Plan {number}")
        plan_assign(owner_id=customer.org.id, plan_id=plan.id)
        Invoice.objects.create(
            owner_id=customer.org.id, month=date(2026, number, 1), state="final", year=2026, number=number,
            due_cents=100, due_at=now() - timedelta(days=9),
        )  # fmt: skip
        with CaptureQueriesContext(connection) as seen:
            assert client.call("get", f"operator/{path}").status_code == 200
        return len(seen)

    few = [queries(number) for number in (1, 2, 3)]
    assert few[1] == few[2]  # the first also notes that the key was used


def test_a_key_that_reads_changes_nothing(ada: Customer, operator: Customer):
    client = made(operator, "operator", "read")
    reply = client.call("post", f"operator/organisations/{ada.org.id}/suspend", {"reason": "Because."})
    assert refusal(reply) == (403, "scope_missing")
    assert "'manage'" in reply.json()["error"]["message"]
    ada.org.refresh_from_db()
    assert ada.org.suspended_at is None


def test_owners_of_the_operators_organisation_give_the_scope(operator: Customer):
    reply = operator.browser().call("post", "keys", {"name": "till", "scopes": ["operator", "read"]})
    assert reply.status_code == 201, reply.content
    assert reply.json()["scopes"] == ["read", "operator"]
    event = AuditEvent.objects.get(action="key.created", target=reply.json()["id"])
    assert event.data["scopes"] == ["read", "operator"]


def test_nobody_takes_the_scope(ada: Customer, operator: Customer):
    wish, keys = {"name": "till", "scopes": ["operator", "read"]}, operating().count()
    assert refusal(ada.client().call("post", "keys", wish)) == (400, "scopes_invalid")
    assert refusal(operator.client().call("post", "keys", wish)) == (403, "scope_forbidden")
    Membership.objects.filter(user=operator.user).update(role="developer")
    assert refusal(operator.browser().call("post", "keys", wish)) == (403, "scope_forbidden")
    assert operating().count() == keys


def test_nobody_takes_it_by_rotating_a_key(operator: Customer):
    key, _ = key_create(
        org=operator.org, name="till", scopes=["operator", "read"], actor=operator.actor, may_operate=True
    )
    path = f"keys/{key.id}/rotate"
    assert refusal(operator.client().call("post", path, {})) == (403, "scope_forbidden")
    key.refresh_from_db()
    assert key.expires_at is None  # it goes on as it was
    reply = made(operator, "operator", "manage").call("post", path, {})
    assert (reply.status_code, reply.json()["scopes"]) == (201, ["read", "operator"])


def test_a_form_offers_the_scope_to_those_who_may_give_it(ada: Customer, operator: Customer):
    wish, keys = {"name": "till", "scopes": ["operator", "manage"]}, operating().count()
    assert 'value="operator"' in operator.browser().get("/console/keys/").content.decode()
    assert operator.browser().post("/console/keys/", wish).status_code == 200
    assert operating().count() == keys + 1
    assert 'value="operator"' not in ada.browser().get("/console/keys/").content.decode()
    assert ada.browser().post("/console/keys/", wish).status_code == 422
