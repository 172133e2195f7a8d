"""Quantities of a preview: from days and what lies around them they are those of the single requests, to the unit."""

from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from random import Random

import pytest
from django.db import connection
from django.db.models import Sum
from django.test.utils import CaptureQueriesContext

from kindling_billing.effects import draft
from kindling_billing.invoicing import invoice_finalise
from kindling_billing.models import PriceVersion
from kindling_billing.rating import BATCH, CACHED, OUTPUT, PROMPT, REASONING, Price
from kindling_people import Customer, make_customer, make_model, make_operator, make_record
from kindling_platform.catalog.models import Model
from kindling_platform.common.errors import KindlingError
from kindling_platform.usage.models import RetiredUsage, UsageEvent
from kindling_platform.usage.repricing import prices_preview, quantities_sum
from kindling_platform.usage.retention import usage_retire
from kindling_platform.usage.services import usage_ingest

pytestmark = pytest.mark.django_db
START = datetime(2026, 9, 1, tzinfo=UTC)
SPANS = [
    (0, 72), (0.5, 71.5), (23, 25), (1, 2), (23.99, 48), (24, 48.01), (-500, 500), (30, 30.5), (47, 49),
]  # fmt: skip
BOUNDS = (0, 0.5, 24, 48, 71.5, 72)
# Of requests that differ in nothing but their ids none gets lost.
TWIN = {"prompt_tokens": 900, "cached_tokens": 70, "completion_tokens": 50, "reasoning_tokens": 8}
Sums = dict[tuple[str, bool], tuple[Counter, int]]


def at(hours: float) -> datetime:
    return START + timedelta(hours=hours)


@pytest.fixture(scope="module")
def used(module_rows: None) -> tuple[Model, list[Customer]]:
    """Requests of two organisations over three days, a third of them batch work, some of two models, some failed.

    A third organisation does batch work alone, of a fourth everything has failed, and a fifth does the same every day.
    """
    operator, random = make_operator(), Random(7)
    models = [make_model(operator), make_model(operator, "other")]
    customers = [make_customer() for _ in range(5)]
    prices = {model.id: PriceVersion.objects.get(sku=model.id) for model in models}

    def record(customer: Customer, hours: float, model: Model = models[0], **changes):
        moment = int(at(hours).timestamp() * 1000)
        made = random.randrange(1, 90)
        counts = {
            "prompt_tokens": random.randrange(50, 5000), "cached_tokens": random.randrange(50),
            "completion_tokens": made, "reasoning_tokens": random.randrange(made),
        }  # fmt: skip
        times = {"started_ms": moment - 5, "first_token_ms": moment - 2, "finished_ms": moment}
        return make_record(customer.org.id, model, prices[model.id], **times | counts | changes)

    def book(records: list) -> None:
        source = f"r{UsageEvent.objects.count()}"
        usage_ingest(source=source, log_id="log", after=0, records=records, next_offset=len(records))

    for customer in customers[:2]:
        book([
            record(
                customer, 72 * random.random(), random.choice([*models, models[0]]), batch=random.random() < 0.3,
                finish=random.choice(["stop", "stop", "length", "cancelled", "error"]),
            )
            for _ in range(200)
        ])  # fmt: skip
        book(
            [record(customer, hours, **TWIN, batch=batch) for hours in 2 * BOUNDS for batch in (True, False)]
        )
    book([record(customers[2], hours, batch=True) for hours in (3, 30, 31, 60)])
    book([record(customers[3], 5, batch=batch, finish="error") for batch in (True, False)])
    book(
        [record(customers[4], hours, **TWIN, batch=batch) for hours in (5, 29, 53) for batch in (True, False)]
    )
    return models[0], customers


def sums(model: Model, hours: tuple[float, float], *, split: bool) -> Sums:
    """What a preview reads of a span, by organisation and by whether it is batch work."""
    found = quantities_sum(skus=[model.id], start=at(hours[0]), end=at(hours[1]), split=split)
    merged: Sums = {}
    for one in found:
        batch = all(unit.startswith(BATCH) for unit in one.quantities)
        quantities = Counter({unit.removeprefix(BATCH): count for unit, count in one.quantities.items()})
        if not split:
            quantities[OUTPUT] += quantities.pop(REASONING)
        assert (one.owner_id, batch) not in merged
        merged[one.owner_id, batch] = quantities, one.billed_picousd
    return merged


def by_hand(model: Model, hours: tuple[float, float], *, split: bool) -> Sums:
    """The same, request by request; reasoning counts as output unless it is to be split."""
    merged: Sums = {}
    for event in UsageEvent.objects.filter(model_id=model.id):
        if event.finish != "error" and at(hours[0]) <= event.finished_at < at(hours[1]):
            quantities, cost = merged.get((event.organisation_id, event.batch), (Counter(), 0))
            thought = event.reasoning_tokens if split else 0
            quantities[PROMPT] += event.prompt_tokens - event.cached_tokens
            quantities[CACHED] += event.cached_tokens
            quantities[OUTPUT] += event.completion_tokens - thought
            if split:
                quantities[REASONING] += thought
            merged[event.organisation_id, event.batch] = quantities, cost + event.cost_picousd
    return merged


@pytest.mark.parametrize("hours", SPANS)
def test_both_ways_say_what_the_requests_say(used: tuple[Model, list[Customer]], hours: tuple[float, float]):
    model, _ = used
    for split in (False, True):
        assert sums(model, hours, split=split) == by_hand(model, hours, split=split)


def test_the_span_says_the_same_in_any_zone(used: tuple[Model, list[Customer]]):
    model, _ = used
    zone = timezone(timedelta(hours=5, minutes=45))
    start, end = at(6).astimezone(zone), at(70).astimezone(zone)
    found = quantities_sum(skus=[model.id], start=start, end=end, split=False)
    assert sum(one.billed_picousd for one in found) == sum(
        cost for _, cost in by_hand(model, (6, 70), split=False).values()
    )


def test_whole_days_read_no_ordinary_request(used: tuple[Model, list[Customer]]):
    model, customers = used
    expected = by_hand(model, (0, 72), split=False)
    mixed = {(one.org.id, batch) for one in (*customers[:2], customers[4]) for batch in (True, False)}
    assert set(expected) == mixed | {(customers[2].org.id, True)}
    UsageEvent.objects.filter(batch=False).delete()
    assert sums(model, (0, 72), split=False) == expected


@pytest.fixture
def retired(used: tuple[Model, list[Customer]], settings, monkeypatch: pytest.MonkeyPatch) -> Model:
    """What was used in the first day and a half is deleted."""
    model, customers = used
    for customer in customers:
        month = datetime(2026, 10, 1, tzinfo=UTC).date()
        invoice_finalise(owner_id=customer.org.id, month=month, now=datetime(2100, 1, 1, tzinfo=UTC))
    settings.KINDLING_ENV = replace(settings.KINDLING_ENV, keep_requests_days=70)
    monkeypatch.setattr("kindling_platform.usage.retention.now", lambda: at(36) + timedelta(days=70))
    return model


@pytest.mark.parametrize("split", [False, True])
def test_days_whose_requests_were_deleted_are_as_exact(retired: Model, split: bool):
    spans = [(0, 72), (-500, 500), (0, 48), (0, 24), (24, 48), (24, 60.3), (-9, 0), (50, 71), (71, 90)]
    expected = {hours: by_hand(retired, hours, split=split) for hours in spans}
    old = UsageEvent.objects.filter(finished_at__lt=at(36))
    count, failed = old.count(), old.filter(billable=False).count()
    assert usage_retire(most=count // 3).more  # rows are added to
    assert usage_retire().requests == count - count // 3 > 100
    kept = RetiredUsage.objects.aggregate(requests=Sum("requests"), failed=Sum("failed"))
    assert kept == {"requests": count, "failed": failed}
    assert {hours: sums(retired, hours, split=split) for hours in spans} == expected
    for hours in [(0.5, 72), (23, 25), (0, 30), (-5, 1), (1, 2), (37, 71), (30, 30.5), (-1, 47.9)]:
        with pytest.raises(KindlingError) as refused:
            sums(retired, hours, split=split)
        assert (refused.value.code, refused.value.status) == ("span_not_kept", 409)


def test_what_was_deleted_before_it_was_kept_by_model_is_not_split(used: tuple[Model, list[Customer]]):
    model, customers = used
    expected = by_hand(model, (0, 72), split=False)
    row = RetiredUsage.objects.create(
        organisation_id=customers[0].org.id, day=at(25).date(), requests=1, cost_picousd=1
    )
    assert sums(model, (0, 72), split=False) == expected  # its sums are in the day's
    assert sums(model, (48, 72), split=True) == by_hand(model, (48, 72), split=True)
    for hours, split in (((0, 72), True), ((0, 47), False)):
        with pytest.raises(KindlingError, match="were deleted"):
            sums(model, hours, split=split)
    RetiredUsage.objects.filter(id=row.id).update(model_id="mdl_other")
    assert sums(model, (0, 47), split=True) == by_hand(model, (0, 47), split=True)


def test_reasoning_with_a_price_of_its_own_is_told_apart(used: tuple[Model, list[Customer]]):
    model, _ = used

    def effect(price: Price) -> int:
        change = draft(sku=model.id, valid_from=START - timedelta(days=9), price=price)
        with CaptureQueriesContext(connection) as seen:
            made = prices_preview(drafts=[change], start=START, end=START + timedelta(days=3))
        assert any("usage_usageday" in one["sql"] for one in seen) == (price.reasoning is None)
        return made.after_picousd

    assert effect(Price(0, 0, 7)) == effect(Price(0, 0, 7, reasoning=7))
    thought = [
        (quantities[REASONING], 2 if batch else 3)
        for (_, batch), (quantities, _) in by_hand(model, (0, 72), split=True).items()
    ]
    assert effect(Price(0, 0, 0, reasoning=3)) == sum(count * price for count, price in thought)


def test_batch_work_pays_its_part_and_reads_the_days(used: tuple[Model, list[Customer]]):
    """Each unit's price is rounded, once: a third of a price that no third goes into."""
    model, _ = used
    change = draft(
        sku=model.id, valid_from=START - timedelta(days=9), price=Price(1000, 10, 7, batch_percent=33)
    )
    with CaptureQueriesContext(connection) as seen:
        preview = prices_preview(drafts=[change], start=at(1), end=at(71))
    assert any("usage_usageday" in one["sql"] for one in seen)
    expected = before = 0
    for (_, batch), (quantities, cost) in by_hand(model, (1, 71), split=False).items():
        prices = {PROMPT: 330, CACHED: 3, OUTPUT: 2} if batch else {PROMPT: 1000, CACHED: 10, OUTPUT: 7}
        expected += sum(price * quantities[unit] for unit, price in prices.items())
        before += cost
    assert (preview.before_picousd, preview.after_picousd) == (before, expected)
    billed = [event for event in UsageEvent.objects.filter(batch=True) if event.cost_picousd]
    assert all(
        event.cost_picousd
        == 50_000 * (event.prompt_tokens - event.cached_tokens)
        + 25_000 * event.cached_tokens
        + 200_000 * event.completion_tokens
        for event in billed
    )
