"""GPU time in the console: on billing and usage pages, in the ledger, and where the operator looks."""

import base64
import json
import re
from datetime import timedelta

import pytest

from kindling_billing.gpu_hours import HeldPart
from kindling_billing.gpu_time import GpuCharge, gpu_time_post
from kindling_billing.models import PriceVersion
from kindling_console.spans import month_start
from kindling_gpu_time import gpu_price, held
from kindling_people import Customer, make_customer, make_model, make_operator
from kindling_platform.common.clock import now
from kindling_platform.deployments.gpu_time import interval_bill, interval_list_unbilled
from kindling_platform.deployments.models import Deployment, GpuHour
from kindling_platform.deployments.services import deployment_halt
from kindling_platform.deployments.stops import NO_CREDIT

pytestmark = pytest.mark.django_db
# A cent an hour, nearly.
PRICE = 2_777


@pytest.fixture
def operator(db: None) -> Customer:
    return make_operator()


@pytest.fixture
def ada(db: None) -> Customer:
    return make_customer("ada")


@pytest.fixture
def bob(db: None) -> Customer:
    return make_customer("bob")


def billed(deployment: Deployment, **interval) -> None:
    held(deployment, **interval)
    moment = now() + timedelta(hours=2)
    for interval_id in interval_list_unbilled(moment=moment):
        interval_bill(interval_id=interval_id, moment=moment)


@pytest.fixture
def rented(operator: Customer, ada: Customer) -> Deployment:
    model = make_model(operator, priced=False)
    gpu_price(model.id, PRICE)
    return Deployment.objects.create(organisation=ada.org, model=model, name="night-shift")


def page(who: Customer, path: str) -> str:
    reply = who.browser().get(f"/console/{path}")
    assert reply.status_code == 200, reply.content
    text = b"".join(reply) if reply.streaming else reply.content
    return re.sub(r"\s+", " ", text.decode())


def test_the_bill_says_what_of_it_is_gpu_time(ada: Customer, rented: Deployment):
    billed(rented, start=month_start(), lasts=timedelta(minutes=30))
    billing = page(ada, "billing/")
    assert "of it GPU time" in billing
    assert f'href="/console/deployments/{rented.id}/">GPU time of night-shift' in billing
    assert "GPU time of night-shift" in page(ada, "billing/?kind=gpu_time")
    assert "GPU time of night-shift" not in page(ada, "billing/?kind=usage")


def test_years_of_hours_are_read_page_by_page(ada: Customer, rented: Deployment):
    hours = [
        GpuCharge(
            ada.org.id,
            f"9:{number:03}",
            rented.id,
            f"hour {number:03}",
            now(),
            (HeldPart("prc_a", 1, PRICE),),
        )
        for number in range(120)
    ]
    gpu_time_post(hours)
    address, shown = "billing/?kind=gpu_time", []
    while address:
        text = page(ada, address)
        shown.append(re.findall(r"GPU time of hour (\d+)", text))
        following = re.search(r'rel="next" href="(\?[^"#]+)', text)
        address = f"billing/{following[1].replace('&amp;', '&')}" if following else ""
    assert [len(numbers) for numbers in shown] == [50, 50, 20]
    assert [number for numbers in shown for number in numbers] == [f"{one:03}" for one in range(119, -1, -1)]


def test_a_nonsense_cursor_shows_the_first_page(ada: Customer, rented: Deployment):
    billed(rented, start=month_start(), lasts=timedelta(minutes=30))
    for said in ("x", "W10", cursor("\0", "1"), cursor("\ud800", "1")):
        assert "GPU time of night-shift" in page(ada, f"billing/?kind=gpu_time&cursor={said}"), said


def cursor(*fields: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(fields).encode()).decode().rstrip("=")


def test_what_runs_up_is_shown_before_it_is_posted(ada: Customer, rented: Deployment):
    assert "Running up" not in page(ada, "billing/")
    held(rented, ended=False)
    assert "Running up" in page(ada, "billing/")


def test_the_usage_page_has_it_by_deployment_with_a_table_to_download(
    ada: Customer, bob: Customer, rented: Deployment
):
    billed(rented)
    shown = page(ada, "usage/?first=2026-03-10&last=2026-03-10")
    assert "GPU time of your own deployments" in shown
    assert "2.50 hours for $0.02" in shown
    query = re.search(r"gpu-time\.csv\?([^\"]*)", shown)
    assert query
    table = page(ada, f"usage/gpu-time.csv?{query[1].replace('&amp;', '&')}")
    assert "night-shift" in table
    assert "night-shift" not in page(bob, f"usage/gpu-time.csv?{query[1].replace('&amp;', '&')}")
    assert "GPU time" not in page(bob, "usage/?first=2026-03-10&last=2026-03-10")
    assert ada.browser().get("/console/usage/gpu-time.csv?from=never").status_code == 400


def test_the_operator_sees_the_revenue_and_the_margin(operator: Customer, rented: Deployment):
    billed(rented)
    assert "of GPU time" in page(operator, "operator/revenue/")
    assert "gpu_time_picousd" in page(operator, "operator/revenue.csv")
    assert "$0.02" in page(operator, "operator/margins/?month=2026-03")


def test_an_hour_without_a_price_waits_at_the_operators_and_can_be_given_up(
    operator: Customer, ada: Customer, rented: Deployment
):
    other = make_model(operator, "other", priced=False)
    Deployment.objects.update(model=other)
    rented.refresh_from_db()
    billed(rented)
    records = page(operator, "operator/records/?kind=gpu")
    assert "There is no price of GPU time for this model at that hour." in records
    assert "Publish a price of GPU time" in records
    assert ada.org.name in records
    row = GpuHour.objects.order_by("id").first()
    assert row
    for hour_id, note in ((row.id, ""), (row.id, "A gift"), ("nothing", "x")):
        operator.browser().post(f"/console/operator/records/gpu/{hour_id}/dismiss/", {"note": note})
    assert set(GpuHour.objects.values_list("state", flat=True)) == {"parked", "given_up"}
    assert ada.browser().get("/console/operator/records/?kind=gpu").status_code in (403, 404)


def test_the_price_form_takes_dollars_an_hour_and_keeps_what_it_is_not_told(
    operator: Customer, rented: Deployment
):
    form = {"model": rented.model_id, "plan": "", "input": "0.10", "cached_input": "0.05", "output": "0.40"}
    prices = operator.browser()
    for given in ({"gpu_hour": "2.50"}, {}, {"gpu_hour": "0"}):
        reply = prices.post("/console/operator/prices/", form | given | {"do": "publish"})
        assert reply.status_code == 303, reply.content
    versions = PriceVersion.objects.filter(sku=rented.model_id).order_by("valid_from", "id")
    assert [row.gpu_ms_picousd for row in versions] == [PRICE, 694_444, 694_444, 0]
    assert ">$2.50</span> an hour" in page(operator, "operator/prices/")
    refused = prices.post("/console/operator/prices/", form | {"gpu_hour": "-1", "do": "publish"})
    assert refused.status_code == 422


def test_a_deployment_that_nobody_can_pay_for_says_so(ada: Customer, rented: Deployment):
    deployment_halt(deployment_id=rented.id, reason=NO_CREDIT)
    assert NO_CREDIT in page(ada, f"deployments/{rented.id}/")
    assert "Deployment stopped, unpaid" in page(ada, "settings/activity/")


def test_the_page_of_a_deployment_says_what_an_hour_costs(
    operator: Customer, ada: Customer, rented: Deployment
):
    assert "An hour of a ready replica costs <span" in page(ada, f"deployments/{rented.id}/")
    shared = Deployment.objects.create(organisation=operator.org, model=rented.model, name="everybody")
    assert "An hour" not in page(operator, f"deployments/{shared.id}/")


def test_the_operator_makes_a_deployment_for_an_organisation(
    operator: Customer, ada: Customer, rented: Deployment
):
    url = f"/console/operator/organisations/{ada.org.id}/deployments/"
    assert "night-shift" in page(operator, url.removeprefix("/console/"))
    form = {
        "model": rented.model.ref,
        "name": "second",
        "replicas": "1",
        "weights": "int8wo",
        "kv_dtype": "fp8",
    }
    reply = operator.browser().post(url, form)
    made = Deployment.objects.get(name="second")
    assert (reply.status_code, reply["Location"]) == (303, f"/console/deployments/{made.id}/")
    assert made.organisation_id == ada.org.id
    shown = page(ada, f"deployments/{made.id}/")
    assert (
        'with weights as <span class="mono">int8wo</span>, with keys and values as <span class="mono">fp8<'
        in shown
    )
    gpu_price(rented.model_id, 10**9, since=now())
    dear = operator.browser().post(url, form | {"name": "dear"})
    assert dear.status_code == 422
    assert "Add credit first." in dear.content.decode()
    assert ada.browser().get(url).status_code == 403


def test_a_start_without_credit_is_refused_in_words(ada: Customer, rented: Deployment):
    Deployment.objects.update(desired_state="stopped")
    gpu_price(rented.model_id, 10**9, since=now())
    reply = ada.browser().post(f"/console/deployments/{rented.id}/start/", follow=True)
    assert "Add credit first." in reply.content.decode()
    assert Deployment.objects.get().desired_state == "stopped"
