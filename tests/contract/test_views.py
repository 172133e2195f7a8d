"""The views that the gateway reads: their columns and types, and which rows they show."""

import json
import uuid
from datetime import timedelta

import pytest
from django.db import connection

from kindling_billing.limits import Limits
from kindling_billing.selectors import price_current
from kindling_gpu_time import HOUR_COST, gpu_price, held
from kindling_people import Customer, make_customer, make_model, make_operator, make_price, make_record
from kindling_platform.adapters.models import Adapter
from kindling_platform.common.clock import now
from kindling_platform.deployments.budgets import budget_spent_get
from kindling_platform.deployments.gpu_time import interval_bill, interval_list_unbilled
from kindling_platform.deployments.models import Deployment, Replica
from kindling_platform.gateway import database as gateway
from kindling_platform.gateway.auth import caller_from_row
from kindling_platform.gateway.catalog import model_from_row
from kindling_platform.keys.limits import limits_set
from kindling_platform.keys.models import ApiKey, LimitSet
from kindling_platform.keys.services import key_create, key_revoke, key_rotate
from kindling_platform.usage.models import UsageSeriesDay
from kindling_platform.usage.selectors import spent_get
from kindling_platform.usage.services import usage_ingest

pytestmark = pytest.mark.django_db
COLUMNS = {
    "gateway_key": {
        "digest": "bytea", "key_id": "character varying", "org_id": "character varying",
        "org_slug": "character varying", "org_salt": "character varying", "scopes": "ARRAY",
        "expires_at": "timestamp with time zone", "revoked": "boolean", "suspended": "boolean",
        "member_id": "character varying", "epoch": "bigint", "models": "ARRAY",
        "limits_key_id": "character varying", "limits": "jsonb", "suspended_for": "text",
    },
    "gateway_model": {
        "org_id": "character varying", "org_slug": "character varying", "is_public": "boolean",
        "name": "character varying", "kind": "text", "model_id": "character varying", "base_ref": "text",
        "adapter_id": "character varying", "adapter_hash": "character varying", "context_length": "integer",
        "price_version_id": "character varying", "input_picousd": "bigint", "cached_input_picousd": "bigint",
        "output_picousd": "bigint", "created_at": "timestamp with time zone", "reasoning_picousd": "bigint",
        "batch_percent": "smallint",
    },
    "gateway_alias": {
        "org_id": "character varying", "alias": "character varying", "target_slug": "text", "target_name": "text",
    },
    "gateway_replica": {
        "deployment_id": "character varying", "deployment_name": "character varying",
        "org_id": "character varying", "org_slug": "character varying", "model_id": "character varying",
        "replica_name": "character varying", "url": "character varying",
    },
    "gateway_deployment": {
        "deployment_id": "character varying", "deployment_name": "character varying",
        "org_id": "character varying", "org_slug": "character varying", "model_id": "character varying",
    },
    "gateway_balance": {"org_id": "character varying", "balance_picousd": "numeric", "version": "bigint"},
    "gateway_posted": {"org_id": "character varying", "request_id": "uuid"},
    "gateway_settled": {
        "org_id": "character varying", "request_id": "uuid", "prompt_tokens": "integer", "cached_tokens": "integer",
        "completion_tokens": "integer", "reasoning_tokens": "integer",
    },
    "gateway_spending": {
        "org_id": "character varying", "key_id": "character varying", "member_id": "character varying",
        "hour": "timestamp with time zone", "cost_picousd": "numeric",
    },
}  # fmt: skip


@pytest.fixture
def operator(db: None) -> Customer:
    return make_operator()


@pytest.fixture
def ada(db: None) -> Customer:
    return make_customer("ada")


def rows(query: str, *values: object) -> list[dict]:
    """Run one of the gateway's own queries."""
    with connection.cursor() as cursor:
        cursor.execute(query, values)
        names = [column.name for column in cursor.description]
        found = [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
    for row in found:
        if isinstance(
            row.get("limits"), str
        ):  # Django leaves JSON as it came, the gateway's own pool reads it
            row["limits"] = json.loads(row["limits"])
    return found


@pytest.mark.parametrize("view", COLUMNS)
def test_columns_and_types(view: str):
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT column_name, data_type FROM information_schema.columns WHERE table_name = %s", [view]
        )
        assert dict(cursor.fetchall()) == COLUMNS[view]


def test_the_view_of_models_stays_when_a_column_that_it_does_not_tell_goes():
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT column_name FROM information_schema.view_column_usage"
            " WHERE view_name = 'gateway_model' AND table_name = 'catalog_model'"
        )
        read = {name for (name,) in cursor.fetchall()}
        # As Django drops columns.
        cursor.execute("ALTER TABLE catalog_model DROP COLUMN deployable CASCADE")
        cursor.execute("SELECT count(*) FROM gateway_model")
    assert read == {"id", "organisation_id", "name", "is_public", "context_length", "created_at"}


def test_a_key_in_each_of_its_states(ada: Customer):
    key, _ = key_create(org=ada.org, name="a", scopes=["inference", "read"], actor=ada.actor)
    digest = bytes(ApiKey.objects.get(id=key.id).digest)
    row = rows(gateway.KEY_BY_DIGEST, digest)[0]
    assert (row["key_id"], row["org_slug"], row["revoked"], row["suspended_for"]) == (
        key.id,
        ada.org.slug,
        False,
        "",
    )
    caller = caller_from_row(digest, row)
    assert caller.scopes == {"inference", "read"}
    key_revoke(org=ada.org, key_id=key.id, actor=ada.actor)
    ada.org.suspended_at = now()
    ada.org.save()
    row = rows(gateway.KEY_BY_DIGEST, digest)[0]
    assert (row["revoked"], row["suspended_for"]) == (True, "operator")
    ada.org.deleting_at = now()
    ada.org.save()
    assert rows(gateway.KEY_BY_DIGEST, digest)[0]["suspended_for"] == "deleted"


def test_a_key_carries_every_limit_that_binds_it(ada: Customer):
    key, _ = key_create(
        org=ada.org, name="a", scopes=["inference"], actor=ada.actor, models=["kindling/spark"]
    )
    bob = make_customer("bob")
    limits_set(org=ada.org, values={"requests_per_minute": 100}, actor=ada.actor, by_operator=True)
    limits_set(org=ada.org, values={"concurrent_requests": 5}, actor=ada.actor, member_id=ada.user.id)
    limits_set(org=ada.org, values={"budget_day_picousd": 7_000_999}, actor=ada.actor, key_id=key.id)
    limits_set(org=bob.org, values={"requests_per_minute": 1}, actor=bob.actor, by_operator=True)
    other, _ = key_create(org=ada.org, name="b", scopes=["inference"], actor=bob.actor)
    digest = bytes(ApiKey.objects.get(id=key.id).digest)
    caller = caller_from_row(
        digest, rows(gateway.KEY_BY_DIGEST, digest)[0], defaults=Limits(concurrent_requests=9)
    )
    assert caller.models == {"kindling/spark"}
    assert {scope.name: scope.limits for scope in caller.limit_scopes} == {
        f"organisation:{ada.org.id}": Limits(requests_per_minute=100, concurrent_requests=9),
        f"member:{ada.org.id}:{ada.user.id}": Limits(concurrent_requests=5),
        f"key:{key.id}": Limits(budget_day_nano=7000),
    }
    digest = bytes(ApiKey.objects.get(id=other.id).digest)
    caller = caller_from_row(digest, rows(gateway.KEY_BY_DIGEST, digest)[0])
    assert [scope.name for scope in caller.limit_scopes] == [f"organisation:{ada.org.id}"]


def test_a_rotated_key_keeps_limits_and_spending(ada: Customer):
    first, _ = key_create(org=ada.org, name="a", scopes=["inference"], actor=ada.actor)
    second, _ = key_rotate(org=ada.org, key_id=first.id, overlap=timedelta(hours=1), actor=ada.actor)
    third, _ = key_rotate(org=ada.org, key_id=second.id, overlap=timedelta(hours=1), actor=ada.actor)
    limits_set(org=ada.org, values={"budget_month_picousd": 10**12}, actor=ada.actor, key_id=third.id)
    for key in (first, third):
        digest = bytes(ApiKey.objects.get(id=key.id).digest)
        row = rows(gateway.KEY_BY_DIGEST, digest)[0]
        assert (row["limits_key_id"], row["limits"][0]["budget_month_picousd"]) == (first.id, 10**12)
    day = now().replace(hour=0, minute=0, second=0, microsecond=0)
    for key, cost in ((first, 5), (second, 7), (third, 11)):
        UsageSeriesDay.objects.create(
            organisation_id=ada.org.id, day=day, facet="key", value=key.id, cost_picousd=cost
        )
    values = [day, day.replace(day=1), first.id, first.id, "", "", ada.org.id]
    row = rows(gateway.SPENT_OF_SCOPE, *values)[0]
    assert (row["total"], row["month"], row["day"]) == (23, 23, 23)
    spent = spent_get(org_id=ada.org.id, moment=now(), version=1, key_id=first.id)
    assert (spent.total_picousd, spent.month_picousd, spent.day_picousd) == (23, 23, 23)
    values = [day, day.replace(day=1), "", "", ada.user.id, ada.user.id, ada.org.id]
    assert rows(gateway.SPENT_OF_SCOPE, *values)[0]["total"] == 23
    assert spent_get(org_id=ada.org.id, moment=now(), version=1, member_id=ada.user.id).total_picousd == 23


def test_posted_gpu_time_is_spent_by_the_organisation_and_by_no_key_or_member(
    operator: Customer, ada: Customer
):
    """Through the gateway's query and through the workers', whichever month it is of."""
    model = make_model(operator, priced=False)
    gpu_price(model.id)
    deployment = Deployment.objects.create(organisation=ada.org, model=model, name="night-shift")
    # Of yesterday, as the first hour of today may not be over; single hours are read of the month that runs alone.
    today = now().replace(hour=0, minute=0, second=0, microsecond=0)
    day = today if today.day == 1 else today - timedelta(days=1)
    month = day.replace(day=1)
    for place, start in enumerate((month - timedelta(days=40), month - timedelta(hours=1), day)):
        held(deployment, start=start, lasts=timedelta(hours=1), name=f"r{place}")
    moment = day + timedelta(hours=2)
    for interval_id in interval_list_unbilled(moment=moment):
        assert interval_bill(interval_id=interval_id, moment=moment).posted == 1
    limits = LimitSet(organisation=ada.org)
    for whose, hours in (
        ({}, (1, 1, 3)),
        ({"member_id": ada.user.id}, (0, 0, 0)),
        ({"key_id": "key_1"}, (0, 0, 0)),
    ):
        key_id, member_id = whose.get("key_id", ""), whose.get("member_id", "")
        values = [day, month, key_id, key_id, member_id, member_id, ada.org.id]
        row = rows(gateway.SPENT_OF_SCOPE, *values)[0]
        assert (row["day"], row["month"], row["total"]) == tuple(one * HOUR_COST for one in hours)
        limits.member_id, limits.key_id = member_id or None, key_id or None
        spent = budget_spent_get(limits=limits, moment=moment, version=1)
        assert (spent.day_picousd, spent.month_picousd, spent.total_picousd) == (
            row["day"],
            row["month"],
            row["total"],
        )


def test_salts_differ_between_organisations(ada: Customer):
    for customer in (ada, make_customer("bob")):
        customer.key()
    salts = [row["org_salt"] for row in rows("SELECT org_salt FROM gateway_key")]
    assert len(set(salts)) == 2
    assert all(len(salt) == 64 for salt in salts)


def test_a_base_model_carries_the_price_in_force(operator: Customer):
    model = make_model(operator)
    make_price(model, operator.actor)
    future = make_price_from_tomorrow(model)
    row = rows(gateway.MODEL_BY_NAME, "kindling", "spark")[0]
    assert row["kind"] == "base"
    assert row["base_ref"] == "kindling/spark"
    assert row["price_version_id"] not in (None, future)
    found = model_from_row(row)
    assert found.price is not None
    assert (found.price.input, found.price.cached_input, found.price.output) == (100_000, 50_000, 400_000)


def make_price_from_tomorrow(model) -> str:
    from kindling_billing.services import price_publish

    tomorrow = now() + timedelta(days=1)
    return price_publish(
        sku=model.id, input_picousd=9, cached_input_picousd=9, output_picousd=9, valid_from=tomorrow
    ).id


def test_a_model_without_a_price_is_there_without_one(operator: Customer):
    make_model(operator, priced=False)
    row = rows(gateway.MODEL_BY_NAME, "kindling", "spark")[0]
    assert row["price_version_id"] is None
    assert model_from_row(row).price is None


@pytest.mark.parametrize("state", ["uploading", "validating", "rejected", "deleted"])
def test_an_adapter_is_callable_only_when_ready(operator: Customer, ada: Customer, state: str):
    model = make_model(operator)
    adapter = Adapter.objects.create(
        organisation=ada.org, base=model, name="mine", content_hash="f" * 64, state=state
    )
    assert rows(gateway.MODEL_BY_NAME, ada.org.slug, "mine") == []
    Adapter.objects.filter(id=adapter.id).update(state="ready")
    row = rows(gateway.MODEL_BY_NAME, ada.org.slug, "mine")[0]
    base = rows(gateway.MODEL_BY_NAME, "kindling", "spark")[0]
    assert row["kind"] == "adapter"
    assert (row["adapter_hash"], row["adapter_id"], row["is_public"]) == ("f" * 64, adapter.id, False)
    for column in ("model_id", "base_ref", "price_version_id", "context_length"):
        assert row[column] == base[column]


def test_an_organisation_sees_public_models_and_its_own(operator: Customer, ada: Customer):
    make_model(operator)
    make_model(operator, "hidden", is_public=False)
    make_model(ada, "own", is_public=False)
    seen = {f"{row['org_slug']}/{row['name']}" for row in rows(gateway.MODELS_OF_ORG, ada.org.id)}
    assert seen == {"kindling/spark", f"{ada.org.slug}/own"}


@pytest.mark.parametrize(
    ("change", "visible"),
    [
        ({}, True),
        ({"state": "starting"}, False),
        ({"state": "failed"}, False),
        ({"generation": 1}, False),
        ({"url": ""}, False),
        ({"desired_state": "stopped"}, False),
        ({"desired_state": "deleted"}, False),
    ],
)
def test_only_ready_replicas_of_running_deployments_are_routed_to(
    operator: Customer, change: dict, visible: bool
):
    model = make_model(operator)
    desired = change.pop("desired_state", "running")
    deployment = Deployment.objects.create(
        organisation=operator.org, model=model, name="d", generation=2, desired_state=desired
    )
    facts = {"state": "ready", "url": "http://127.0.0.1:1", "generation": 2} | change
    Replica.objects.create(deployment=deployment, name="d-g2-r0", **facts)
    found = rows(gateway.REPLICAS_OF_MODEL, model.id)
    assert [row["replica_name"] for row in found] == (["d-g2-r0"] if visible else [])
    deployments = [row["deployment_id"] for row in rows(gateway.DEPLOYMENTS_OF_MODEL, model.id)]
    assert deployments == ([deployment.id] if deployment.desired_state != "deleted" else [])


def test_every_organisation_has_a_balance(operator: Customer, ada: Customer):
    assert rows(gateway.BALANCE_OF_ORG, operator.org.id) == [{"balance_picousd": 0, "version": 0}]
    assert rows(gateway.BALANCE_OF_ORG, ada.org.id) == [{"balance_picousd": 10**12, "version": 1}]


def test_what_is_posted_is_seen_with_the_balance_by_its_organisation_alone(operator: Customer, ada: Customer):
    model = make_model(operator)
    price = price_current(sku=model.id)
    assert price
    record = make_record(ada.org.id, model, price)
    usage_ingest(source="r", log_id="l", after=0, records=[record], next_offset=1)
    asked = [record.request_id, str(uuid.uuid4())]
    found, others = (rows(gateway.POSTED_OF_ORG, asked, org.id)[0] for org in (ada.org, operator.org))
    assert [str(request_id) for request_id in found["posted"]] == [record.request_id]
    assert found["version"] == 2
    assert others["posted"] == []


def test_what_a_request_used_is_told_to_its_organisation_where_it_is_paid_for(
    operator: Customer, ada: Customer
):
    model = make_model(operator)
    price = price_current(sku=model.id)
    assert price
    cut, ours = (
        make_record(ada.org.id, model, price, finish=finish, reasoning_tokens=2)
        for finish in ("cancelled", "error")
    )
    usage_ingest(source="r", log_id="l", after=0, records=[cut, ours], next_offset=2)
    assert rows(gateway.SETTLED_OF_REQUEST, ada.org.id, cut.request_id.replace("-", "")) == [
        {"prompt_tokens": 10, "cached_tokens": 4, "completion_tokens": 5, "reasoning_tokens": 2}
    ]
    assert rows(gateway.SETTLED_OF_REQUEST, ada.org.id, ours.request_id) == []
    assert rows(gateway.SETTLED_OF_REQUEST, operator.org.id, cut.request_id) == []


@pytest.mark.parametrize("view", COLUMNS)
def test_the_views_can_only_be_read(view: str):
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT is_insertable_into FROM information_schema.tables WHERE table_name = %s", [view]
        )
        assert cursor.fetchone() == ("NO",)
