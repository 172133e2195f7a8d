"""Billing the time of replicas: each closed hour once, whoever races; gaps are parked; proofs find tampered rows."""

import threading
from collections.abc import Callable
from datetime import timedelta

import pytest
from django.db import connection, connections

from kindling_billing.models import LedgerTransaction, UsageTotal
from kindling_billing.plans import plan_assign, plan_create
from kindling_billing.selectors import balance_get
from kindling_gpu_time import EVER, GPU_MS, HOUR_COST, LOADING, START, gpu_price, held
from kindling_people import Customer, make_model
from kindling_platform.audit.models import AuditEvent
from kindling_platform.common.errors import KindlingError
from kindling_platform.deployments.accrued import accrued_map
from kindling_platform.deployments.gpu_reports import gpu_time_list as sums
from kindling_platform.deployments.gpu_reports import gpu_time_rows, gpu_time_spent, gpu_time_total
from kindling_platform.deployments.gpu_time import (
    Billed,
    interval_bill,
    interval_list_unbilled,
    parked_hours_retry,
)
from kindling_platform.deployments.margins import margin_days, margin_models
from kindling_platform.deployments.models import Deployment, GpuHour, ReplicaInterval
from kindling_platform.deployments.parked_hours import parked_hour_dismiss, parked_hour_list
from kindling_platform.deployments.proofs import platform_prove
from kindling_platform.usage.questions import question_of

pytestmark = pytest.mark.django_db
HOUR = timedelta(hours=1)
LATER = START + timedelta(days=1)
# Half past two hours after a quarter past nine: parts of four hours.
LASTS_MS = 9_000_000


@pytest.fixture
def rented(operator: Customer, ada: Customer) -> Deployment:
    """A deployment of ada's of a model that has no price of GPU time yet."""
    model = make_model(operator)
    return Deployment.objects.create(
        organisation=ada.org, model=model, name="night-shift", desired_replicas=1
    )


def bill(moment=LATER) -> Billed:
    done = Billed()
    for interval_id in interval_list_unbilled(moment=moment):
        done.add(interval_bill(interval_id=interval_id, moment=moment))
    return done


def spent(ada: Customer) -> int:
    return 10**12 - balance_get(owner_id=ada.org.id).picousd


def findings() -> set[str]:
    return {one["check"] for one in platform_prove().findings}


def test_every_closed_hour_is_posted_once(ada: Customer, rented: Deployment):
    gpu_price(rented.model_id)
    interval = held(rented)
    done = bill()
    assert (done.posted, done.parked, done.cost_picousd) == (3, 0, LASTS_MS * GPU_MS)
    assert done.owner_ids == {ada.org.id}
    assert spent(ada) == LASTS_MS * GPU_MS
    assert [row.held_ms for row in GpuHour.objects.order_by("hour")] == [2_699_876, 3_600_000, 2_700_124]
    sources = LedgerTransaction.objects.filter(source_type="gpu_time").values_list("source_id", flat=True)
    assert set(sources) == {f"{interval.id}:2026-03-10T{hour:02}" for hour in (9, 10, 11)}
    total = UsageTotal.objects.get(unit="gpu_ms")
    assert (total.sku, total.label, int(total.quantity)) == (rented.id, "night-shift", LASTS_MS)
    assert (bill(), spent(ada)) == (Billed(), LASTS_MS * GPU_MS)
    assert findings() == set()


def test_an_hour_waits_until_it_is_over_and_heard_of_behind_its_end(ada: Customer, rented: Deployment):
    gpu_price(rented.model_id)
    held(rented, ended=False)
    assert bill(moment=START + timedelta(minutes=44)) == Billed()
    assert bill(moment=START + HOUR).posted == 1
    # Nobody heard of it since 11:45: whether 11 o'clock's hour was held to its end is not known yet.
    assert bill().posted == 1
    assert accrued_map(owner_ids=[ada.org.id]) == {ada.org.id: 2_700_124 * GPU_MS}
    ReplicaInterval.objects.update(ended_at=START + timedelta(hours=2, minutes=30))
    assert bill().posted == 1
    assert (spent(ada), accrued_map(owner_ids=[ada.org.id])) == (LASTS_MS * GPU_MS, {})
    assert findings() == set()


def test_the_operators_replicas_are_everybodys_and_cost_nobody(operator: Customer, rented: Deployment):
    shared = Deployment.objects.create(organisation=operator.org, model=rented.model, name="shared")
    gpu_price(rented.model_id)
    held(shared)
    assert (interval_list_unbilled(moment=LATER), bill()) == ([], Billed())
    assert findings() == set()


def test_a_price_that_changes_within_an_hour_and_a_plan_hold_from_their_moments_on(
    ada: Customer, rented: Deployment
):
    gpu_price(rented.model_id)
    gpu_price(rented.model_id, 3 * GPU_MS, since=START + HOUR)
    plan = plan_create(name="Friends")
    gpu_price(rented.model_id, 5 * GPU_MS, plan_id=plan.id)
    plan_assign(owner_id=ada.org.id, plan_id=plan.id, valid_from=START + 2 * HOUR)
    held(rented)
    bill()
    assert spent(ada) == (3_600_000 * (1 + 3) + 1_800_000 * 5) * GPU_MS
    assert [len(row.parts) for row in GpuHour.objects.order_by("hour")] == [1, 2, 2]
    assert findings() == set()


def test_a_gap_is_parked_and_posted_once_it_has_a_price(ada: Customer, rented: Deployment):
    gpu_price(rented.model_id, since=START + HOUR)
    held(rented)
    done = bill()
    # The hour in which the price begins has a part without one.
    assert (done.posted, done.parked, spent(ada)) == (1, 2, 2_700_124 * GPU_MS)
    assert {row.reason for row in parked_hour_list()} == {
        "There is no price of GPU time for this model at that hour."
    }
    assert findings() == set()
    assert parked_hours_retry()[0] == Billed()
    gpu_price(rented.model_id)
    retried, after = parked_hours_retry()
    assert (retried.posted, retried.parked) == (2, 0)
    assert parked_hours_retry(after=after) == (Billed(), 0)
    assert (spent(ada), parked_hour_list().count()) == (LASTS_MS * GPU_MS, 0)
    assert findings() == set()


def test_an_hour_that_was_given_up_is_never_billed(ada: Customer, operator: Customer, rented: Deployment):
    held(rented, lasts=timedelta(minutes=10))
    assert bill().parked == 1
    row = GpuHour.objects.get()
    for hour_id, note, code in ((row.id, " ", "note_missing"), (row.id + 1, "x", "not_found")):
        with pytest.raises(KindlingError) as refused:
            parked_hour_dismiss(hour_id=hour_id, note=note, actor=operator.actor)
        assert refused.value.code == code
    parked_hour_dismiss(hour_id=row.id, note="A gift", actor=operator.actor)
    assert AuditEvent.objects.get(action="gpu_time.given_up").data["note"] == "A gift"
    gpu_price(rented.model_id)
    assert (parked_hours_retry(), spent(ada), findings()) == ((Billed(), 0), 0, set())


def test_an_interval_far_behind_takes_several_steps(ada: Customer, rented: Deployment):
    gpu_price(rented.model_id)
    interval = held(rented, lasts=timedelta(hours=450))
    moment = START + timedelta(days=30)
    steps = [interval_bill(interval_id=interval.id, moment=moment).posted for _ in range(4)]
    assert steps == [200, 200, 51, 0]
    assert (spent(ada), findings()) == (450 * HOUR_COST, set())


@pytest.mark.parametrize(
    ("tamper", "found"),
    [
        (
            "UPDATE deployments_gpuhour SET held_ms = held_ms + 1 WHERE id = {id}",
            {"GPU hours are their replicas' time", "GPU hours cost their time at its price"},
        ),
        (
            "UPDATE deployments_gpuhour SET cost_picousd = cost_picousd - 1 WHERE id = {id}",
            {"GPU hours cost their time at its price", "GPU hours are the ledger's GPU time"},
        ),
        (
            "UPDATE deployments_gpuhour SET parts = '[]' WHERE id = {id}",
            {"GPU hours cost their time at its price"},
        ),
        (
            "UPDATE deployments_gpuhour SET state = 'given_up', cost_picousd = 0, parts = '[]' WHERE id = {id}",
            {"GPU hours are the ledger's GPU time"},
        ),
        (
            "DELETE FROM deployments_gpuhour WHERE id = {id}",
            {"GPU hours are their replicas' time", "GPU hours are the ledger's GPU time"},
        ),
        (
            "UPDATE deployments_replicainterval SET ready_at = ready_at - interval '1 second'",
            {"GPU hours are their replicas' time"},
        ),
        (
            "UPDATE deployments_replicainterval SET billed_until = billed_until - interval '1 hour'",
            {"GPU hours are their replicas' time"},
        ),
        (
            "UPDATE deployments_gpuhour SET organisation_id = 'org_other' WHERE id = {id}",
            {"GPU hours are the ledger's GPU time"},
        ),
    ],
)
def test_proofs_find_a_row_that_was_tampered_with(rented: Deployment, tamper: str, found: set[str]):
    gpu_price(rented.model_id)
    held(rented)
    bill()
    assert findings() == set()
    with connection.cursor() as cursor:
        cursor.execute(tamper.format(id=GpuHour.objects.order_by("hour")[1].id))
    assert findings() == found


def test_margins_count_it_as_revenue_of_the_model(rented: Deployment):
    gpu_price(rented.model_id)
    held(rented)
    bill()
    days = margin_days(start=START.replace(hour=0, minute=0, second=0, microsecond=0), end=LATER)
    found = margin_models(days)[rented.model_id]
    assert (found.revenue_picousd, found.running_us) == (
        LASTS_MS * GPU_MS,
        LASTS_MS * 1000 + LOADING // timedelta(microseconds=1),
    )


def test_reports_sum_to_the_ledger(ada: Customer, bob: Customer, rented: Deployment):
    gpu_price(rented.model_id, since=START + HOUR)
    held(rented)
    held(rented, name="second", lasts=3 * HOUR)
    bill()
    span = {"from": "2026-03-10", "to": "2026-03-11"}
    total = gpu_time_total(sums(question_of(ada.org, span)))
    assert (total.held_ms, total.cost_picousd) == (LASTS_MS + 3 * 3_600_000, spent(ada))
    assert total.unbilled_ms == 2 * 6_299_876
    by_hour = sums(question_of(ada.org, span | {"interval": "hour"}))
    assert [row.at.hour for row in by_hour if row.at] == [9, 10, 11, 12]
    assert gpu_time_total(by_hour) == total
    table = list(gpu_time_rows(question_of(ada.org, span | {"interval": "day", "tz": "Asia/Kolkata"})))
    assert sum(row[6] for row in table[1:]) == spent(ada)
    assert gpu_time_spent(org=ada.org, start=EVER, end=LATER) == spent(ada)
    assert sums(question_of(bob.org, span)) == []


def together(*works: Callable[[], object]) -> list[BaseException]:
    """Run all at once; gives what went wrong."""
    troubles: list[BaseException] = []
    gate = threading.Barrier(len(works))

    def run(work: Callable[[], object]) -> None:
        try:
            gate.wait(60)
            work()
        except BaseException as error:
            troubles.append(error)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=run, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return troubles


@pytest.mark.django_db(transaction=True)
def test_workers_who_race_post_every_hour_once(ada: Customer, rented: Deployment):
    gpu_price(rented.model_id, since=START + HOUR)
    for number in range(3):
        held(rented, name=f"r{number}", lasts=timedelta(hours=20))
    gaps = bill(moment=START + HOUR).parked
    assert gaps == 3
    gpu_price(rented.model_id)
    works = [bill, lambda: parked_hours_retry()] * 3
    assert together(*works) == []
    bill()
    parked_hours_retry()
    assert spent(ada) == 3 * 20 * HOUR_COST
    assert findings() == set()
