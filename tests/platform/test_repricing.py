"""Quantities of a preview: from days and what lies around them they are those of the single requests, to the unit."""

from collections import Counter
from datetime import UTC, datetime, timedelta
from random import Random

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from kindling_billing.effects import draft
from kindling_billing.models import PriceVersion
from kindling_billing.rating import BATCH, OUTPUT, PROMPT, REASONING, Price
from kindling_people import Customer, make_customer, make_model, make_operator, make_record
from kindling_platform.catalog.models import Model
from kindling_platform.usage.models import UsageEvent
from kindling_platform.usage.repricing import prices_preview, quantities_sum
from kindling_platform.usage.services import usage_ingest

pytestmark = pytest.mark.django_db
START = datetime(2026, 9, 1, tzinfo=UTC)
SPANS = [
    (0, 72), (0.5, 71.5), (23, 25), (1, 2), (23.99, 48), (24, 48.01), (-500, 500), (30, 30.5), (47, 49),
]  # fmt: skip


@pytest.fixture(scope="module")
def used(module_rows: None) -> tuple[Model, list[Customer]]:
    """Four hundred requests of two organisations over three days, some of which failed."""
    model, customers, random = make_model(make_operator()), [make_customer(), make_customer()], Random(7)
    price = PriceVersion.objects.get(sku=model.id)
    for place, customer in enumerate(customers):
        records = []
        for _ in range(200):
            at = int((START + timedelta(hours=72 * random.random())).timestamp() * 1000)
            made = random.randrange(1, 90)
            records.append(
                make_record(
                    customer.org.id, model, price, started_ms=at - 5, first_token_ms=at - 2, finished_ms=at,
                    prompt_tokens=random.randrange(50, 5000), cached_tokens=random.randrange(50),
                    completion_tokens=made, reasoning_tokens=random.randrange(made),
                    finish=random.choice(["stop", "stop", "length", "cancelled", "error"]),
                )
            )  # fmt: skip
        usage_ingest(source=f"r{place}", log_id="log", after=0, records=records, next_offset=200)
    return model, customers


def sums(model: Model, hours: tuple[float, float], *, split: bool) -> dict[str, tuple[Counter, int]]:
    start, end = (START + timedelta(hours=one) for one in hours)
    found = quantities_sum(skus=[model.id], start=start, end=end, split=split)
    merged = {}
    for one in found:
        quantities = Counter(one.quantities)
        quantities[OUTPUT] += quantities.pop(REASONING)
        merged[one.owner_id] = (quantities, one.billed_picousd)
    return merged


@pytest.mark.parametrize("hours", SPANS)
def test_both_ways_agree(used: tuple[Model, list[Customer]], hours: tuple[float, float]):
    model, _ = used
    assert sums(model, hours, split=False) == sums(model, hours, split=True)


def test_whole_days_read_no_request(used: tuple[Model, list[Customer]]):
    model, customers = used
    expected = sums(model, (0, 72), split=True)
    assert set(expected) == {customer.org.id for customer in customers}
    UsageEvent.objects.all().delete()  # as they are when they are old enough
    assert sums(model, (0, 72), split=False) == expected


def test_reasoning_with_a_price_of_its_own_is_told_apart(used: tuple[Model, list[Customer]]):
    model, _ = used

    def effect(price: Price) -> int:
        change = draft(sku=model.id, valid_from=START - timedelta(days=9), price=price)
        with CaptureQueriesContext(
            connection,
        ) as seen:
            made = prices_preview(drafts=[change], start=START, end=START + timedelta(days=3))
        assert any("usage_usageday" in one["sql"] for one in seen) == (price.reasoning is None)
        return made.after_picousd

    assert effect(Price(0, 0, 7)) == effect(Price(0, 0, 7, reasoning=7))
    billable = UsageEvent.objects.filter(billable=True).values_list("reasoning_tokens", flat=True)
    assert effect(Price(0, 0, 0, reasoning=3)) == 3 * sum(billable)


def test_batch_work_is_told_apart_and_pays_its_part(used: tuple[Model, list[Customer]]):
    model, (ada, _) = used
    price = PriceVersion.objects.get(sku=model.id)
    at = int((START + timedelta(hours=30)).timestamp() * 1000)
    times = {"started_ms": at - 5, "first_token_ms": at - 2, "finished_ms": at}
    records = [
        make_record(ada.org.id, model, price, batch=batch, prompt_tokens=9, cached_tokens=0, **times)
        for batch in (True, False)
    ]
    usage_ingest(source="r9", log_id="log", after=0, records=records, next_offset=2)
    whole, half = (UsageEvent.objects.get(request_id=record.request_id) for record in reversed(records))
    assert (whole.batch, half.batch) == (False, True)
    assert half.cost_picousd * 2 == whole.cost_picousd
    found = quantities_sum(skus=[model.id], start=START, end=START + timedelta(days=3), split=True)
    batched = [one for one in found if BATCH + PROMPT in one.quantities]
    assert [(one.owner_id, one.quantities[BATCH + PROMPT], one.billed_picousd) for one in batched] == [
        (ada.org.id, 9, half.cost_picousd)
    ]
    change = draft(
        sku=model.id, valid_from=START - timedelta(days=9), price=Price(1000, 0, 0, batch_percent=10)
    )
    preview = prices_preview(drafts=[change], start=START, end=START + timedelta(days=3))
    billable = UsageEvent.objects.filter(billable=True)
    tokens = sum(event.prompt_tokens - event.cached_tokens for event in billable if not event.batch)
    assert preview.after_picousd == 1000 * tokens + 100 * 9
