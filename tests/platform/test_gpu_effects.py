"""What drafts of prices would have made of GPU time: exact, beside the requests, for those whom they reach."""

from datetime import timedelta

import pytest

from kindling_billing.book import Version
from kindling_billing.effects import Effect, draft
from kindling_billing.plans import plan_assign, plan_create
from kindling_billing.rating import Price
from kindling_gpu_time import GPU_MS, START, gpu_price, held
from kindling_people import CACHED, INPUT, OUTPUT, Customer, make_model
from kindling_platform.catalog.models import Model
from kindling_platform.common.clock import now
from kindling_platform.deployments.gpu_effects import gpu_time_preview
from kindling_platform.deployments.gpu_time import interval_bill, interval_list_unbilled
from kindling_platform.deployments.models import Deployment, GpuHour
from kindling_platform.deployments.price_effects import price_effects

pytestmark = pytest.mark.django_db
LASTS_MS = 9_000_000
DAY = timedelta(days=1)


@pytest.fixture
def model(operator: Customer, ada: Customer, bob: Customer) -> Model:
    """Two organisations whose replicas held two and a half hours each."""
    found = make_model(operator, priced=False)
    gpu_price(found.id, since=START + timedelta(hours=1))
    for customer in (ada, bob):
        held(Deployment.objects.create(organisation=customer.org, model=found, name="night-shift"))
    bill()
    return found


def bill() -> None:
    for interval_id in interval_list_unbilled(moment=now()):
        interval_bill(interval_id=interval_id, moment=now())


def at(model: Model, gpu_ms: int, plan_id: str = "") -> Version:
    price = Price(INPUT, CACHED, OUTPUT, gpu_ms=gpu_ms)
    return draft(sku=model.id, valid_from=now(), price=price, plan_id=plan_id)


def preview(*drafts: Version) -> dict[str, Effect]:
    return {one.owner_id: one for one in gpu_time_preview(drafts=drafts, start=START - DAY, end=START + DAY)}


def test_every_millisecond_at_the_new_price_and_hours_that_wait_as_billed(
    model: Model, ada: Customer, bob: Customer
):
    # The price began in the middle of the second hour: the first two wait, the third is posted.
    billed = 2_700_124 * GPU_MS
    assert {row.state for row in GpuHour.objects.all()} == {"posted", "parked"}
    found = preview(at(model, 3 * GPU_MS))
    assert {(one.before_picousd, one.after_picousd) for one in found.values()} == {
        (billed, LASTS_MS * 3 * GPU_MS)
    }
    assert set(found) == {ada.org.id, bob.org.id}
    GpuHour.objects.filter(state="parked").update(state="given_up")
    assert preview(at(model, 3 * GPU_MS))[ada.org.id].after_picousd == 3 * billed
    assert preview(at(model, 0))[ada.org.id].difference_picousd == -billed


def test_a_plans_price_reaches_its_own_alone(model: Model, ada: Customer, bob: Customer):
    plan = plan_create(name="Friends")
    plan_assign(owner_id=ada.org.id, plan_id=plan.id, valid_from=START - DAY)
    found = preview(at(model, 2 * GPU_MS, plan.id))
    assert found[ada.org.id].after_picousd == LASTS_MS * 2 * GPU_MS
    assert found[bob.org.id].difference_picousd == 0


def test_other_models_and_other_hours_are_left_out(model: Model, operator: Customer):
    other = make_model(operator, "other")
    assert preview(at(other, 1)) == {}
    assert gpu_time_preview(drafts=[at(model, 1)], start=START + DAY, end=START + 2 * DAY) == []


def test_page_and_api_say_it_apart_and_in_the_total(operator: Customer, ada: Customer):
    model = make_model(operator, priced=False)
    gpu_price(model.id)
    deployment = Deployment.objects.create(organisation=ada.org, model=model, name="night-shift")
    held(deployment, start=now() - timedelta(hours=30), lasts=timedelta(hours=2))
    bill()
    (_, last_days) = price_effects([at(model, 3 * GPU_MS)], models={model.id: model.ref})
    hours = 7_200_000 * GPU_MS
    assert (last_days.gpu_time.before_picousd, last_days.gpu_time.after_picousd) == (hours, 3 * hours)
    for row in (last_days.total, *last_days.by_model, *last_days.by_organisation):
        assert (row.before_picousd, row.after_picousd) == (hours, 3 * hours)
    price = {
        "model": model.ref, "input_usd_per_million": "0.1", "cached_input_usd_per_million": "0.05",
        "output_usd_per_million": "0.4", "gpu_picousd_per_ms": 3 * GPU_MS,
    }  # fmt: skip
    shown = operator.browser().call("post", "operator/prices/preview", {"prices": [price]}).json()["data"][1]
    assert shown["gpu_time"]["difference_picousd"] == shown["total"]["difference_picousd"] == str(2 * hours)
    form = {
        "model": model.id, "plan": "", "input": "0.10", "cached_input": "0.05", "output": "0.40",
        "gpu_hour": "1.00", "do": "preview",
    }  # fmt: skip
    html = operator.browser().post("/console/operator/prices/", form).content.decode()
    assert "Of it GPU time" in html
