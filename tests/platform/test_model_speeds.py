"""How fast models were: the percentiles of real requests, and nothing by which one organisation is seen by others."""

from datetime import timedelta
from statistics import median, quantiles

import pytest
from django.db import connection

from kindling_people import Customer, make_customer, make_model
from kindling_platform.catalog.models import Model, ModelSpeed
from kindling_platform.catalog.speeds import FRESH, speeds_map
from kindling_platform.common.clock import now
from kindling_platform.deployments import speeds
from kindling_platform.deployments.models import Deployment
from kindling_platform.deployments.speeds import MEASURE, SAMPLES, WINDOW, speeds_measure
from kindling_speeds import answer

pytestmark = pytest.mark.django_db
TIMES = [*range(100, 500, 3)]


@pytest.fixture
def model(operator: Customer) -> Model:
    return make_model(operator)


@pytest.fixture
def shared(operator: Customer, model: Model) -> Deployment:
    return Deployment.objects.create(organisation=operator.org, model=model, name="shared")


@pytest.fixture
def cleo(db: None) -> Customer:
    return make_customer("cleo")


def measured(org_id: str = "") -> ModelSpeed | None:
    return ModelSpeed.objects.filter(organisation_id=org_id).first()


def test_figures_are_the_percentiles_of_all_requests(
    ada: Customer, bob: Customer, cleo: Customer, model: Model, shared: Deployment
):
    parts = {ada: TIMES[0::3], bob: TIMES[1::3], cleo: TIMES[2::3]}
    for customer, times in parts.items():
        answer(customer, model, times, by=shared)
    assert speeds_measure() == 4
    row = measured()
    assert row is not None
    assert row.duration_p50_ms == median(TIMES)
    assert row.duration_p95_ms == pytest.approx(quantiles(TIMES, n=100, method="inclusive")[94], abs=0.1)
    assert (row.first_token_p50_ms, row.first_token_p95_ms) == (10, 10)
    # Four tokens behind the first; of a hundred answers 95 were at least as fast as the slow end.
    rates = sorted(4000 / (time - 10) for time in TIMES)
    assert row.tokens_per_s_p50 == pytest.approx(median(rates), abs=0.1)
    assert row.tokens_per_s_p95 == pytest.approx(quantiles(rates, n=100, method="inclusive")[4], abs=0.1)
    assert row.tokens_per_s_p95 < row.tokens_per_s_p50
    assert row.window_end - row.window_start == WINDOW
    # 134 requests, to two digits; an organisation's own count is its own affair.
    assert (row.samples, row.first_token_samples, row.tokens_per_s_samples) == (130, 130, 130)
    own = measured(ada.org.id)
    assert own is not None
    assert (own.samples, own.duration_p50_ms, own.duration_p95_ms) == (45, median(parts[ada]), None)


def test_two_organisations_would_see_each_other(
    ada: Customer, bob: Customer, model: Model, shared: Deployment
):
    for customer in (ada, bob):
        answer(customer, model, TIMES, by=shared)
    speeds_measure()
    assert measured() is None
    assert measured(ada.org.id) and measured(bob.org.id)


def test_figures_of_nearly_one_organisation_alone_are_shown_to_it_alone(
    ada: Customer, bob: Customer, cleo: Customer, model: Model, shared: Deployment
):
    answer(ada, model, TIMES * 2, by=shared)
    for customer in (bob, cleo):
        answer(customer, model, TIMES[:25], by=shared)
    speeds_measure()
    assert measured() is None
    answer(cleo, model, TIMES[:25], by=shared)
    speeds_measure()
    assert measured() is not None


def test_what_an_organisation_runs_for_itself_is_its_own(
    ada: Customer, bob: Customer, cleo: Customer, model: Model, shared: Deployment
):
    own = Deployment.objects.create(organisation=ada.org, model=model, name="dedicated")
    answer(ada, model, [9000] * 200, by=own)
    for customer in (ada, bob, cleo):
        answer(customer, model, TIMES[:40], by=shared)
    speeds_measure()
    everybody, hers = measured(), measured(ada.org.id)
    assert everybody is not None and everybody.duration_p95_ms is not None and everybody.duration_p95_ms < 300
    assert hers is not None and hers.duration_p50_ms == 9000


def test_a_private_model_is_measured_for_its_own_organisation(
    ada: Customer, bob: Customer, cleo: Customer, operator: Customer
):
    model = make_model(ada, "secret", is_public=False)
    running = Deployment.objects.create(organisation=ada.org, model=model, name="secret")
    for customer in (ada, bob, cleo):
        answer(customer, model, TIMES, by=running)
    speeds_measure()
    assert measured() is None
    assert measured(ada.org.id) is not None


@pytest.mark.parametrize("few", [SAMPLES - 1, SAMPLES])
def test_too_few_samples_say_nothing(ada: Customer, model: Model, few: int):
    answer(ada, model, TIMES[:few])
    speeds_measure()
    assert (measured(ada.org.id) is not None) == (few == SAMPLES)


@pytest.mark.parametrize(
    "odd",
    [
        {"finish": "cancelled"}, {"finish": "error"}, {"finish": "grant_refused"},
        {"said": {"adapter": "adp_1"}, "adapter": "0" * 64}, {"said": {"batch": True}},
        {"ended": now() - timedelta(hours=25)},
    ],
)  # fmt: skip
def test_what_says_nothing_of_an_answer_now_is_not_counted(ada: Customer, model: Model, odd: dict):
    answer(ada, model, [60_000] * 50, **odd)
    speeds_measure()
    assert measured(ada.org.id) is None
    answer(ada, model, TIMES[:30])
    speeds_measure()
    row = measured(ada.org.id)
    assert row is not None
    assert (row.samples, row.duration_p50_ms) == (30, median(TIMES[:30]))


def test_an_embedding_has_no_first_token(ada: Customer, model: Model):
    answer(ada, model, TIMES, first_ms=None, completion_tokens=0)
    speeds_measure()
    row = measured(ada.org.id)
    assert row is not None
    assert (row.first_token_p50_ms, row.tokens_per_s_p50) == (None, None)
    assert (row.first_token_samples, row.tokens_per_s_samples) == (0, 0)
    assert row.duration_p50_ms == median(TIMES)


def test_clocks_that_disagree_give_no_negative_time(ada: Customer, model: Model):
    answer(ada, model, [100] * 30, first_ms=-5)
    speeds_measure()
    row = measured(ada.org.id)
    assert row is not None
    assert row.first_token_p50_ms == 0


def test_figures_are_replaced_and_end_with_their_requests(
    ada: Customer, model: Model, monkeypatch: pytest.MonkeyPatch
):
    answer(ada, model, [100] * 30)
    assert speeds_measure() == 1
    answer(ada, model, [500] * 90)
    assert speeds_measure() == 1
    row = measured(ada.org.id)
    assert row is not None
    assert (row.samples, row.duration_p50_ms) == (120, 500)
    monkeypatch.setattr(speeds, "now", lambda: now() + timedelta(days=1))
    assert speeds_measure() == 0
    assert not ModelSpeed.objects.exists()


def test_of_very_many_requests_a_part_is_measured(
    ada: Customer, model: Model, monkeypatch: pytest.MonkeyPatch
):
    answer(ada, model, TIMES * 3)
    monkeypatch.setattr(speeds, "MOST", 200)
    speeds_measure()
    row = measured(ada.org.id)
    assert row is not None
    # One in three of 402.
    assert 80 < row.samples < 190
    assert row.duration_p50_ms == pytest.approx(median(TIMES), abs=60)


def test_nobody_reads_what_another_organisation_used(ada: Customer, bob: Customer, model: Model):
    answer(ada, model, TIMES)
    speeds_measure()
    hers = speeds_map(org=ada.org, model_ids=[model.id])[model.id]
    assert hers.own is not None and hers.shown == hers.own
    assert speeds_map(org=bob.org, model_ids=[model.id]) == {}


def test_figures_that_nobody_measures_any_more_are_not_shown(ada: Customer, model: Model):
    answer(ada, model, TIMES)
    speeds_measure()
    ModelSpeed.objects.update(window_end=now() - FRESH - timedelta(minutes=1))
    assert speeds_map(org=ada.org, model_ids=[model.id]) == {}


def test_a_days_requests_are_found_by_an_index_on_their_time(model: Model):
    bounds = {
        "start": now() - WINDOW, "end": now(), "organisations": 3, "largest_share": 0.8, "samples": 20,
        "tail_samples": 100, "nth": 1,
    }  # fmt: skip
    with connection.cursor() as cursor:
        # So few rows are read as a whole; with as many as there are days of them they are not.
        cursor.execute("SET LOCAL enable_seqscan = off")
        cursor.execute(f"EXPLAIN {MEASURE}", bounds)
        plan = "\n".join(line for (line,) in cursor.fetchall())
    assert "Seq Scan on usage_usageevent" not in plan
    assert "Index Cond: ((finished_at >=" in plan or "AND (finished_at >=" in plan, plan
