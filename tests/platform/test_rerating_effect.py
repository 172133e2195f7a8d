"""What a run would change is what it then changes, to the unit."""

from datetime import UTC, datetime, timedelta

import pytest

from kindling_billing.plans import plan_assign, plan_create
from kindling_billing.selectors import balance_get
from kindling_billing.services import price_publish
from kindling_people import Customer, make_customer, make_model, make_operator, make_record
from kindling_platform.catalog.models import Model
from kindling_platform.common.errors import KindlingError
from kindling_platform.usage.models import UsageEvent
from kindling_platform.usage.rerating import rerating_start, rerating_step
from kindling_platform.usage.rerating_effect import rerating_list, rerating_preview
from kindling_platform.usage.services import usage_ingest

pytestmark = pytest.mark.django_db
DAY = datetime(2026, 9, 21, tzinfo=UTC)
SPAN = {"start": DAY - timedelta(days=5), "end": DAY + timedelta(days=5)}
HOURS = (-50, -26, -1, 0, 1, 25, 49)


def publish(model: Model, factor: int, valid_from: datetime, plan_id: str = ""):
    return price_publish(
        sku=model.id, input_picousd=7 * factor, cached_input_picousd=3 * factor, output_picousd=11 * factor,
        valid_from=valid_from, plan_id=plan_id,
    )  # fmt: skip


@pytest.fixture
def used() -> tuple[Model, list[Customer]]:
    """Requests of two organisations over four days, in batches and not, all charged at one price."""
    model, customers = make_model(make_operator(), priced=False), [make_customer(), make_customer()]
    price = publish(model, 101, DAY - timedelta(days=90))
    for number, customer in enumerate(customers):
        records = []
        for hour in HOURS:
            at = int((DAY + timedelta(hours=hour)).timestamp() * 1000)
            records.append(
                make_record(
                    customer.org.id, model, price, started_ms=at, first_token_ms=at + 5, finished_ms=at + 9,
                    prompt_tokens=100 + hour, cached_tokens=20, completion_tokens=50 + number,
                    batch=hour % 2 == 1,
                )
            )  # fmt: skip
        usage_ingest(source=f"r{number}", log_id="log", after=0, records=records, next_offset=len(records))
    return model, customers


def test_the_effect_is_what_the_run_then_does(used: tuple[Model, list[Customer]]):
    model, customers = used
    publish(model, 61, DAY - timedelta(days=1))
    publish(model, 250, DAY + timedelta(hours=1))
    plan = plan_create(name="Half")
    publish(model, 50, DAY - timedelta(days=80), plan.id)
    plan_assign(owner_id=customers[1].org.id, plan_id=plan.id, valid_from=DAY - timedelta(hours=26))
    effects = {effect.owner_id: effect for effect in rerating_preview(sku=model.id, **SPAN)}
    before = {one.org.id: balance_get(owner_id=one.org.id).picousd for one in customers}
    run = rerating_start(sku=model.id, reason="A mistake", actor=customers[0].actor, **SPAN)
    while rerating_step(run_id=run.id, limit=3):
        pass
    run.refresh_from_db()
    assert {effect.requests for effect in effects.values()} == {len(HOURS)}
    assert sum(effect.changed for effect in effects.values()) == run.changed > 0
    assert sum(effect.difference_picousd for effect in effects.values()) == run.difference_picousd != 0
    for owner_id, effect in effects.items():
        after = balance_get(owner_id=owner_id).picousd
        assert before[owner_id] - after == effect.difference_picousd
        events = UsageEvent.objects.filter(organisation_id=owner_id)
        assert sum(event.cost_picousd for event in events) == effect.after_picousd
    assert [one.id for one in rerating_list()] == [run.id]
    assert {effect.difference_picousd for effect in rerating_preview(sku=model.id, **SPAN)} == {0}


def test_one_organisation_alone_and_gaps(used: tuple[Model, list[Customer]]):
    model, customers = used
    (effect,) = rerating_preview(sku=model.id, owner_id=customers[0].org.id, **SPAN)
    assert (effect.owner_id, effect.changed, effect.gaps) == (customers[0].org.id, 0, 0)
    UsageEvent.objects.filter(organisation_id=customers[0].org.id).update(price_version_id="prc_gone")
    (effect,) = rerating_preview(sku=model.id, owner_id=customers[0].org.id, **SPAN)
    assert (effect.gaps, effect.difference_picousd) == (len(HOURS), 0)


def test_a_span_that_cannot_be_is_refused():
    with pytest.raises(KindlingError, match="must end after"):
        rerating_preview(sku="x", start=DAY, end=DAY)
