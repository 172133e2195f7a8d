"""Rating anew: by reversal, once per run, wherever it stops; and parked records that are let go."""

import json
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from django.db import connection

from kindling_billing.models import LedgerTransaction
from kindling_billing.plans import plan_assign, plan_create
from kindling_billing.selectors import balance_get, drift_list, ledger_sum
from kindling_billing.services import price_publish
from kindling_people import (
    CACHED,
    INPUT,
    OUTPUT,
    Customer,
    make_customer,
    make_model,
    make_operator,
    make_record,
)
from kindling_platform.common.clock import now
from kindling_platform.common.errors import KindlingError
from kindling_platform.deployments.proofs import platform_prove
from kindling_platform.usage.models import ParkedUsage, SpooledUsage, UsageEvent, UsageHour
from kindling_platform.usage.parked import parked_release
from kindling_platform.usage.rerating import rerating_list_open, rerating_start, rerating_step
from kindling_platform.usage.services import usage_ingest

pytestmark = pytest.mark.django_db
COST = 6 * INPUT + 4 * CACHED + 5 * OUTPUT
CREDIT = 10**12
DAY = datetime(2026, 9, 21, tzinfo=UTC)  # on which the records of these tests ran


@pytest.fixture
def world(db: None):
    class World:
        operator = make_operator()
        customer: Customer = make_customer()
        model = make_model(operator, priced=False)
        price = price_publish(
            sku=model.id, input_picousd=INPUT, cached_input_picousd=CACHED, output_picousd=OUTPUT,
            valid_from=DAY - timedelta(days=100),
        )  # fmt: skip

        def ingest(self, count: int, source: str = "r0", customer: Customer | None = None, **changes) -> None:
            org = (customer or self.customer).org
            records = [make_record(org.id, self.model, self.price, **changes) for _ in range(count)]
            usage_ingest(source=source, log_id="log", after=0, records=records, next_offset=count)

        def half_price(self, valid_from: datetime = DAY, **more):
            return price_publish(
                sku=self.model.id, input_picousd=INPUT // 2, cached_input_picousd=CACHED // 2,
                output_picousd=OUTPUT // 2, valid_from=valid_from, **more,
            )  # fmt: skip

        def rerate(self, **more) -> int:
            span = {"start": DAY - timedelta(days=1), "end": DAY + timedelta(days=2)} | more
            run = rerating_start(sku=self.model.id, reason="A mistake", actor=self.operator.actor, **span)
            return run.id

        def balance(self, customer: Customer | None = None) -> int:
            return balance_get(owner_id=(customer or self.customer).org.id).picousd

    return World()


def assert_sound() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
        cursor.execute("SET CONSTRAINTS ALL DEFERRED")
    assert (ledger_sum(), drift_list(), platform_prove().findings) == (0, [], [])


def test_a_corrected_price_gives_the_difference_back_and_keeps_every_row(world):
    world.ingest(7)
    new = world.half_price()
    run = world.rerate()
    assert rerating_list_open() == [run]
    steps = 1
    while rerating_step(run_id=run, limit=3):
        steps += 1
    assert (steps, rerating_list_open()) == (3, [])
    assert not rerating_step(run_id=run)
    assert world.balance() == CREDIT - 7 * COST // 2
    assert set(UsageEvent.objects.values_list("price_version_id", "cost_picousd")) == {(new.id, COST // 2)}
    assert UsageHour.objects.get().cost_picousd == 7 * COST // 2
    kinds = LedgerTransaction.objects.filter(source_type__startswith="usage").values_list("source_type")
    assert len(kinds) == 21
    assert_sound()


def test_a_second_run_finds_nothing_to_do_and_a_third_price_is_posted_beside_the_others(world):
    world.ingest(2)
    world.half_price()
    for _ in range(2):
        run = world.rerate()
        rerating_step(run_id=run)
    assert LedgerTransaction.objects.filter(source_type="usage_reversal").count() == 2
    price_publish(
        sku=world.model.id,
        input_picousd=INPUT,
        cached_input_picousd=CACHED,
        output_picousd=OUTPUT,
        valid_from=DAY,
    )
    rerating_step(run_id=world.rerate())
    assert LedgerTransaction.objects.filter(source_type="usage_reversal").count() == 4
    assert world.balance() == CREDIT - 2 * COST
    assert_sound()


def test_a_plan_holds_for_its_owner_from_its_day_on(world):
    other = make_customer()
    world.ingest(1)
    world.ingest(1, "r1", other)
    plan = plan_create(name="Half")
    world.half_price(plan_id=plan.id)
    plan_assign(owner_id=world.customer.org.id, plan_id=plan.id, valid_from=DAY + timedelta(days=1))
    rerating_step(run_id=world.rerate())
    assert world.balance() == CREDIT - COST
    plan_assign(owner_id=world.customer.org.id, plan_id=plan.id, valid_from=DAY)
    rerating_step(run_id=world.rerate())
    assert (world.balance(), world.balance(other)) == (CREDIT - COST // 2, CREDIT - COST)
    assert_sound()


def test_a_failure_of_ours_stays_free_and_other_models_stay_as_they_are(world):
    world.ingest(1, finish="error")
    world.half_price()
    assert not rerating_step(run_id=world.rerate())
    assert world.balance() == CREDIT
    assert LedgerTransaction.objects.filter(source_type="usage_reversal").count() == 0


@pytest.mark.parametrize(
    ("span", "code"),
    [
        ({"start": DAY, "end": DAY}, "span_invalid"),
        ({"start": DAY, "end": datetime(2100, 1, 1, tzinfo=UTC)}, "span_invalid"),
    ],
)
def test_a_span_that_cannot_be_is_refused(world, span, code: str):
    with pytest.raises(KindlingError) as error:
        world.rerate(**span)
    assert error.value.code == code


def test_a_parked_record_is_let_go_at_the_price_of_its_time(world):
    world.price.id = "prc_gone"
    request_id = uuid4()
    world.ingest(1, request_id=str(request_id))
    assert ParkedUsage.objects.get().request_id == request_id
    parked_release(request_id=request_id, actor=world.operator.actor)
    assert (world.balance(), ParkedUsage.objects.count()) == (CREDIT - COST, 0)
    with pytest.raises(KindlingError):
        parked_release(request_id=request_id, actor=world.operator.actor)
    assert_sound()


def test_a_parked_record_of_a_request_that_failed_is_let_go_for_nothing(world):
    world.price.id = "prc_gone"
    request_id = uuid4()
    world.ingest(1, request_id=str(request_id))
    parked = ParkedUsage.objects.get()
    SpooledUsage.objects.create(
        request_id=request_id, source="gateway-1", verdict="void", record=json.dumps(parked.record),
        shipped_at=now(), booked_at=now(),
    )  # fmt: skip
    parked_release(request_id=request_id, actor=world.operator.actor)
    assert (world.balance(), ParkedUsage.objects.count()) == (CREDIT, 0)
    assert_sound()


def test_a_gap_in_the_prices_keeps_a_record_parked_with_the_reason(world):
    world.price.id = "prc_gone"
    early = int((DAY - timedelta(days=200)).timestamp() * 1000)
    world.ingest(1, started_ms=early, first_token_ms=early, finished_ms=early)
    parked = ParkedUsage.objects.get()
    with pytest.raises(KindlingError) as error:
        parked_release(request_id=parked.request_id, actor=world.operator.actor)
    assert error.value.code == "still_unbillable"
    assert "no price version" in ParkedUsage.objects.get().reason


def test_a_record_from_the_future_is_parked(world):
    ahead = int((datetime.now(UTC) + timedelta(days=40)).timestamp() * 1000)
    world.ingest(1, finished_ms=ahead)
    assert "clock" in ParkedUsage.objects.get().reason
    assert world.balance() == CREDIT


def test_the_proof_finds_what_was_tampered_with(world):
    world.ingest(2)
    assert platform_prove().sound
    UsageHour.objects.update(cost_picousd=1)
    event = UsageEvent.objects.first()
    UsageEvent.objects.filter(request_id=event.request_id).update(cost_picousd=7)
    proof = platform_prove()
    broken = {finding["check"] for finding in proof.findings}
    assert broken == {"usage rows are the ledger's usage", "hours are the sums of their rows"}
    assert world.customer.org.id in proof.findings[0]["finding"]
