"""What is said of deployments: their own percentiles, rates and costs, and of a shared one nobody's alone."""

from datetime import timedelta
from statistics import quantiles

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from kindling_billing.plans import plan_assign, plan_create
from kindling_billing.services import price_publish
from kindling_gpu_time import HOUR_COST, gpu_price
from kindling_people import Customer, make_customer, make_model
from kindling_platform.catalog.models import Model
from kindling_platform.catalog.speeds import FRESH
from kindling_platform.common.clock import now
from kindling_platform.deployments import speeds
from kindling_platform.deployments.costs import cost_enter
from kindling_platform.deployments.figures import Figures, figures_map
from kindling_platform.deployments.models import Deployment, DeploymentSpeed
from kindling_platform.deployments.paces import paces_measure
from kindling_platform.deployments.selectors import deployment_list, deployment_list_visible
from kindling_speeds import answer

pytestmark = pytest.mark.django_db
TIMES = [*range(100, 500, 3)]
RECENT = timedelta(minutes=5)


@pytest.fixture
def model(operator: Customer) -> Model:
    return make_model(operator)


@pytest.fixture
def shared(operator: Customer, model: Model) -> Deployment:
    return Deployment.objects.create(organisation=operator.org, model=model, name="shared")


@pytest.fixture
def dedicated(ada: Customer, model: Model) -> Deployment:
    return Deployment.objects.create(organisation=ada.org, model=model, name="own", desired_replicas=2)


@pytest.fixture
def cleo(db: None) -> Customer:
    return make_customer("cleo")


def seen_by(reader: Customer, deployment: Deployment) -> Figures:
    is_operator = reader.org.is_operator
    rows = list(deployment_list() if is_operator else deployment_list_visible(org=reader.org))
    found = figures_map(org=reader.org, deployments=rows, is_operator=is_operator)
    return found[deployment.id]


def test_a_shared_deployment_shows_all_of_its_requests_and_nobodys(
    ada: Customer, bob: Customer, cleo: Customer, operator: Customer, model: Model, shared: Deployment
):
    for customer, times in ((ada, TIMES[0::3]), (bob, TIMES[1::3]), (cleo, TIMES[2::3])):
        answer(customer, model, times, by=shared, ended=now() - RECENT)
    answer(ada, model, [9000] * 30, by=shared, finish="cancelled")
    paces_measure()
    p95 = pytest.approx(quantiles(TIMES, n=100, method="inclusive")[94], abs=0.1)
    everybodys = seen_by(ada, shared)
    assert everybodys.speed is not None and everybodys.whose == "all organisations"
    # 134 of them, to two digits; what was cut says nothing of how long an answer takes.
    assert (everybodys.speed.samples, everybodys.speed.hour_requests) == (130, 130)
    assert everybodys.speed.duration_p95_ms == p95 and everybodys.speed.first_token_p50_ms == 10
    assert everybodys.requests_per_s == 130 / 3600
    all_of_it = seen_by(operator, shared)
    assert all_of_it.speed is not None and all_of_it.whose == "all requests"
    assert (all_of_it.speed.samples, all_of_it.speed.hour_requests) == (134, 134)
    # There are no rows that nobody would be shown, of which there would be one for each organisation.
    assert set(DeploymentSpeed.objects.values_list("scope", flat=True)) == {"", "*"}
    assert everybodys.cost is None and all_of_it.cost is not None


def test_where_figures_would_be_somebodys_each_sees_their_own(
    ada: Customer, bob: Customer, operator: Customer, model: Model, shared: Deployment
):
    for customer, times in ((ada, TIMES), (bob, [5000] * 150)):
        answer(customer, model, times, by=shared, ended=now() - RECENT)
    paces_measure()
    assert not DeploymentSpeed.objects.filter(scope=DeploymentSpeed.EVERYBODY).exists()
    hers, his, other = seen_by(ada, shared), seen_by(bob, shared), seen_by(make_customer("dan"), shared)
    assert hers.speed and his.speed and hers.speed.duration_p95_ms < 500 < his.speed.duration_p95_ms == 5000
    assert (hers.whose, his.speed.hour_requests) == ("your requests", 150)
    assert (other.speed, other.requests_per_s) == (None, None)


def test_a_rate_that_is_one_organisations_is_not_everybodys(
    ada: Customer, bob: Customer, cleo: Customer, model: Model, shared: Deployment
):
    for customer in (ada, bob, cleo):
        answer(customer, model, TIMES[:40], by=shared, ended=now() - timedelta(hours=3))
    answer(ada, model, TIMES[:20], by=shared, ended=now() - RECENT)
    paces_measure()
    figures = seen_by(bob, shared)
    assert figures.speed is not None and figures.speed.samples == 140
    assert (figures.speed.hour_requests, figures.requests_per_s) == (None, None)


def test_an_own_deployment_is_its_organisations_alone(
    ada: Customer, bob: Customer, operator: Customer, model: Model, dedicated: Deployment
):
    gpu_price(model.id, since=now())
    answer(ada, model, TIMES, by=dedicated, ended=now() - RECENT)
    answer(ada, model, [100], by=dedicated, ended=now() - RECENT, said={"adapter": "adp_1"})
    assert paces_measure() == 2
    own = seen_by(ada, dedicated)
    # With adapters, since that is what a deployment is for.
    assert own.speed is not None and own.speed.samples == len(TIMES) + 1
    assert own.cost is not None and (own.cost.replicas, own.cost.picousd) == (2, 2 * HOUR_COST)
    assert dedicated not in deployment_list_visible(org=bob.org)
    # Even where it is asked for by name.
    strange = figures_map(org=bob.org, deployments=[dedicated], is_operator=False)[dedicated.id]
    assert (strange.speed, strange.cost) == (None, None)
    assert seen_by(operator, dedicated).cost == own.cost
    Deployment.objects.filter(id=dedicated.id).update(desired_state="stopped")
    stopped = seen_by(ada, dedicated).cost
    assert stopped is not None and (stopped.replicas, stopped.picousd) == (0, 0)


def test_what_a_machine_costs_the_operator_is_the_operators_to_know(
    ada: Customer, operator: Customer, model: Model, shared: Deployment
):
    unknown = seen_by(operator, shared).cost
    assert unknown is not None and unknown.picousd is None
    cost_enter(picousd_per_hour=7 * 10**12, actor=operator.actor)
    known = seen_by(operator, shared)
    assert known.cost is not None and (known.cost.picousd, known.is_own_cost) == (7 * 10**12, False)
    assert seen_by(ada, shared).cost is None


def test_too_few_are_counted_and_not_measured(ada: Customer, model: Model, dedicated: Deployment):
    answer(ada, model, TIMES[: speeds.SAMPLES - 1], by=dedicated, ended=now() - RECENT)
    paces_measure()
    few = seen_by(ada, dedicated).speed
    assert few is not None and (few.samples, few.duration_p50_ms, few.duration_p95_ms) == (19, None, None)
    answer(ada, model, TIMES[:1], by=dedicated, ended=now() - RECENT)
    paces_measure()
    enough = seen_by(ada, dedicated).speed
    assert enough is not None and enough.duration_p50_ms is not None and enough.duration_p95_ms is None


def test_a_part_of_very_many_stands_for_all(
    ada: Customer, model: Model, dedicated: Deployment, monkeypatch: pytest.MonkeyPatch
):
    answer(ada, model, TIMES * 5, by=dedicated, ended=now() - RECENT)
    monkeypatch.setattr(speeds, "MOST", len(TIMES) * 5 // 4 + 1)
    paces_measure()
    part = seen_by(ada, dedicated).speed
    assert part is not None and part.hour_requests == part.samples * 4
    assert len(TIMES) * 3 < part.hour_requests < len(TIMES) * 8


def test_old_figures_say_nothing_and_go(ada: Customer, model: Model, dedicated: Deployment):
    answer(ada, model, TIMES, by=dedicated)
    paces_measure()
    DeploymentSpeed.objects.update(window_end=now() - FRESH - timedelta(minutes=1))
    assert seen_by(ada, dedicated).speed is None
    assert paces_measure() == 2 and seen_by(ada, dedicated).speed is not None
    Deployment.objects.filter(id=dedicated.id).update(desired_state="deleted")
    assert paces_measure() == 0 and not DeploymentSpeed.objects.exists()


def test_a_list_takes_as_many_queries_as_one(
    ada: Customer, operator: Customer, model: Model, shared: Deployment
):
    def counted(reader: Customer) -> int:
        is_operator = reader.org.is_operator
        rows = list(deployment_list() if is_operator else deployment_list_visible(org=reader.org))
        with CaptureQueriesContext(connection) as queries:
            figures_map(org=reader.org, deployments=rows, is_operator=is_operator)
        return len(queries)

    Deployment.objects.create(organisation=ada.org, model=model, name="one")
    few = counted(ada), counted(operator)
    for number in range(5):
        other = make_model(operator, f"model-{number}")
        Deployment.objects.create(organisation=ada.org, model=other, name=f"own-{number}")
        Deployment.objects.create(organisation=operator.org, model=other, name=f"shared-{number}")
        # Of the operator's list each may belong to somebody else.
        owner = make_customer(f"owner-{number}")
        Deployment.objects.create(organisation=owner.org, model=model, name="theirs")
    # Speeds, plans and prices; and for the operator what machines cost.
    assert (counted(ada), counted(operator)) == few == (3, 4)


def test_each_owner_pays_what_their_plan_says(
    ada: Customer, bob: Customer, operator: Customer, model: Model, dedicated: Deployment
):
    gpu_price(model.id, since=now())
    plan = plan_create(name="Schools")
    plan_assign(owner_id=bob.org.id, plan_id=plan.id)
    price_publish(
        sku=model.id,
        plan_id=plan.id,
        input_picousd=1,
        cached_input_picousd=1,
        output_picousd=1,
        gpu_ms_picousd=7,
    )
    theirs = Deployment.objects.create(organisation=bob.org, model=model, name="theirs")
    costs = {one.id: seen_by(operator, one).cost for one in (dedicated, theirs)}
    assert costs[dedicated.id].picousd == 2 * HOUR_COST
    assert costs[theirs.id].picousd == 7 * 3_600_000
    assert (
        seen_by(bob, theirs).cost == costs[theirs.id] and seen_by(ada, dedicated).cost == costs[dedicated.id]
    )
