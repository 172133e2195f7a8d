"""Booking usage: exact, once, and never stopped by a bad record."""

import json
import random
import threading
import uuid

import pytest
from django.db import connection, connections, transaction
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kindling_billing.models import LedgerEntry, LedgerTransaction, PriceVersion
from kindling_billing.selectors import balance_get, drift_list, ledger_sum, price_current
from kindling_billing.services import price_publish
from kindling_engine.protocol.usage_log import UsageRecord
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
from kindling_platform.accounts.models import Organisation
from kindling_platform.catalog.models import Model
from kindling_platform.keys.models import ApiKey
from kindling_platform.usage.models import ParkedUsage, UsageCursor, UsageEvent, UsageHour
from kindling_platform.usage.services import IngestResult, cursor_get, usage_ingest

pytestmark = pytest.mark.django_db
COST = 6 * INPUT + 4 * CACHED + 5 * OUTPUT
CREDIT = 10**12


class Shop:
    """A customer, a model and its price."""

    def __init__(self) -> None:
        operator = make_operator()
        self.customer = make_customer()
        self.org: Organisation = self.customer.org
        self.model: Model = Model.objects.filter(name="spark").first() or make_model(operator)
        found = price_current(sku=self.model.id)
        assert found
        self.price: PriceVersion = found

    def record(self, **changes) -> UsageRecord:
        return make_record(self.org.id, self.model, self.price, **changes)

    @property
    def balance(self) -> int:
        return balance_get(owner_id=self.org.id).picousd


@pytest.fixture
def shop(db: None) -> Shop:
    return Shop()


def ingest(
    records: list[UsageRecord], *, after: int = 0, source: str = "r0", log_id: str = "log"
) -> IngestResult:
    return usage_ingest(
        source=source, log_id=log_id, after=after, records=records, next_offset=after + len(records)
    )


def assert_books(shop: Shop, ids: set[str]) -> None:
    events = UsageEvent.objects.filter(organisation_id=shop.org.id)
    assert {str(event.request_id) for event in events} == ids
    spent = sum(event.cost_picousd for event in events)
    assert shop.balance == CREDIT - spent
    assert ledger_sum() == 0
    assert drift_list() == []
    hours = UsageHour.objects.filter(organisation_id=shop.org.id)
    assert sum(int(hour.cost_picousd) for hour in hours) == spent
    assert sum(hour.requests for hour in hours) == len(ids)
    assert LedgerTransaction.objects.filter(source_type="usage", source_id__in=ids).count() == len(ids)


def test_a_request_is_rated_booked_and_summed(shop: Shop):
    record = shop.record()
    result = ingest([record])
    assert (result.inserted, result.parked, result.cost_picousd) == (1, 0, COST)
    assert result.request_ids == {shop.org.id: [record.request_id]}
    assert result.wallets[shop.org.id].picousd == CREDIT - COST
    event = UsageEvent.objects.get()
    assert (event.prompt_tokens, event.cached_tokens, event.completion_tokens) == (10, 4, 5)
    assert event.replica_name == "dep_1-g1-r0"
    assert_books(shop, {record.request_id})
    assert cursor_get(source="r0") == ("log", 1)
    assert cursor_get(source="unknown") == ("", 0)


def test_a_failure_of_ours_costs_nothing_and_is_seen(shop: Shop):
    record = shop.record(finish="error")
    ingest([record])
    event = UsageEvent.objects.get()
    assert (event.billable, event.cost_picousd) == (False, 0)
    assert UsageHour.objects.get().failed == 1
    assert LedgerEntry.objects.filter(transaction__source_type="usage", amount_picousd=0).count() == 2
    assert_books(shop, {record.request_id})


@pytest.mark.parametrize("finish", ["stop", "length", "cancelled", "grant_refused"])
def test_whatever_was_generated_is_billed(shop: Shop, finish: str):
    ingest([shop.record(finish=finish)])
    assert UsageEvent.objects.get().cost_picousd == COST


@pytest.mark.parametrize(("prompt", "cached"), [(900, 0), (900, 400), (0, 0)])
def test_embeddings_are_billed_by_their_input_alone(shop: Shop, prompt: int, cached: int):
    finish = "stop" if prompt else "cancelled"
    record = shop.record(
        prompt_tokens=prompt, cached_tokens=cached, completion_tokens=0, first_token_ms=None, finish=finish
    )
    ingest([record])
    event = UsageEvent.objects.get()
    assert (event.cost_picousd, event.first_token_at) == ((prompt - cached) * INPUT + cached * CACHED, None)
    assert_books(shop, {record.request_id})


def test_a_price_that_changed_meanwhile_does_not_matter(shop: Shop):
    from kindling_people import make_price

    record = shop.record()
    make_price(shop.model, shop.customer.actor)
    ingest([record])
    assert UsageEvent.objects.get().price_version_id == shop.price.id


def test_replays_and_overlaps_change_nothing(shop: Shop):
    records = [shop.record() for _ in range(10)]
    ids = {record.request_id for record in records}
    ingest(records[:6])
    assert ingest(records[:6]).inserted == 0
    assert ingest(records[3:], after=3).inserted == 0  # the cursor stands at 6
    assert ingest(records[6:], after=6).inserted == 4
    # The same records in another log, as after a copy of its file.
    assert ingest(records, source="r1").inserted == 0
    assert ingest(records, log_id="made anew").inserted == 0
    assert_books(shop, ids)


def test_one_record_twice_in_a_page_is_billed_once(shop: Shop):
    record = shop.record()
    assert ingest([record, record]).inserted == 1
    assert_books(shop, {record.request_id})


def test_a_log_that_was_made_anew_is_read_from_its_beginning(shop: Shop):
    first, second = shop.record(), shop.record()
    ingest([first])
    assert ingest([second], after=1, log_id="new").inserted == 0
    assert cursor_get(source="r0") == ("new", 0)
    assert ingest([second], log_id="new").inserted == 1
    assert_books(shop, {first.request_id, second.request_id})


BAD = {
    "no context": {"context": ""},
    "not ours": {"context": "{}"},
    "no json": {"context": "{"},
    "not a uuid": {"request_id": "chatcmpl-1"},
    "a very long id": {"request_id": "x" * 5000},
    "more cached than sent": {"cached_tokens": 11},
    "negative": {"completion_tokens": -1},
    "absurd": {"prompt_tokens": 2**62, "cached_tokens": 0},
    "long ago": {"started_ms": -(10**15)},
    "far future": {"finished_ms": 10**18},
    "long replica": {"replica": "r" * 81},
    "long hash": {"adapter": "a" * 65},
    "nul": {"finish": "st\0p"},
}


def spoilt(shop: Shop, name: str) -> UsageRecord:
    return shop.record(**BAD[name])


@pytest.mark.parametrize("name", BAD)
def test_a_record_that_cannot_be_booked_is_kept_and_the_rest_goes_on(shop: Shop, name: str):
    good = shop.record()
    result = ingest([spoilt(shop, name), good])
    assert (result.inserted, result.parked) == (1, 1)
    parked = ParkedUsage.objects.get()
    assert parked.reason
    assert parked.record["tenant"] == shop.org.id
    assert_books(shop, {good.request_id})


@pytest.mark.parametrize("field", ["org", "price", "model", "key"])
def test_a_context_that_names_nobody_is_parked(shop: Shop, field: str):
    context = json.loads(shop.record().context) | {field: "zz\0" if field == "key" else "zz_unknown"}
    ingest([shop.record(context=json.dumps(context))])
    assert ParkedUsage.objects.count() == 1
    assert UsageEvent.objects.count() == 0


def test_keys_know_when_they_were_last_used(shop: Shop):
    client_key = shop.customer.key()
    row = ApiKey.objects.get()
    context = json.loads(shop.record().context) | {"key": row.id}
    late = shop.record(context=json.dumps(context), finished_ms=1_790_000_100_000)
    ingest([late, shop.record(context=json.dumps(context))])
    row.refresh_from_db()
    assert row.last_used_at and row.last_used_at.timestamp() == 1_790_000_100
    assert client_key not in str(row)


def test_more_than_a_page_is_refused(shop: Shop):
    with pytest.raises(ValueError, match="500"):
        ingest([shop.record()] * 501)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_order_of_windows_bills_each_request_once(shop: Shop, data):
    """Several sources whose logs overlap, read in windows that overlap: the sum is that of the distinct requests."""
    with transaction.atomic():
        pool = [
            shop.record(completion_tokens=tokens)
            for tokens in data.draw(st.lists(st.integers(0, 99), max_size=12))
        ]
        logs = {
            source: data.draw(st.lists(st.sampled_from(pool), max_size=12)) if pool else []
            for source in ("r0", "r1", "r2")
        }
        steps = data.draw(
            st.lists(
                st.tuples(st.sampled_from(sorted(logs)), st.integers(0, 12), st.integers(1, 5)), max_size=20
            )
        )
        for source, after, size in steps:
            ingest(logs[source][after : after + size], after=after, source=source)
        for source, log in logs.items():
            offset = cursor_get(source=source)[1]
            ingest(log[offset:], after=offset, source=source)
        assert_books(shop, {record.request_id for log in logs.values() for record in log})
        transaction.set_rollback(True)


@pytest.mark.django_db(transaction=True)
def test_raters_at_the_same_time_bill_each_request_once():
    """Four threads, two sources with the same requests, all reading everything: no double, no deadlock."""
    shops = [Shop(), Shop()]
    records = [shop.record() for shop in shops for _ in range(100)]
    random.Random(7).shuffle(records)
    troubles: list[BaseException] = []

    def rate(source: str) -> None:
        try:
            while (offset := cursor_get(source=source)[1]) < len(records):
                ingest(records[offset : offset + 20], after=offset, source=source)
        except BaseException as error:
            troubles.append(error)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=rate, args=(source,)) for source in ("r0", "r0", "r1", "r1")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert troubles == []
    for shop in shops:
        assert_books(shop, {r.request_id for r in records if r.tenant == shop.org.id})


@pytest.mark.django_db(transaction=True)
def test_a_kill_in_the_middle_leaves_nothing_half_done(monkeypatch: pytest.MonkeyPatch):
    from kindling_platform.usage import services

    shop = Shop()
    record = shop.record()
    monkeypatch.setattr(services, "_touch_keys", lambda events: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        ingest([record])
    monkeypatch.undo()
    assert_books(shop, set())
    assert UsageCursor.objects.count() == 0
    assert ingest([record]).inserted == 1
    assert_books(shop, {record.request_id})


def test_a_page_of_five_hundred_records_takes_few_queries(shop: Shop, django_assert_max_num_queries):
    others = [shop] + [Shop() for _ in range(4)]
    with django_assert_max_num_queries(140):
        for number in range(3):
            page = [
                random.Random(number).choice(others).record(request_id=str(uuid.uuid4())) for _ in range(500)
            ]
            ingest(page, source=f"s{number}")
            with connection.cursor() as cursor:
                cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
                cursor.execute("SET CONSTRAINTS ALL DEFERRED")


def test_a_customer_sees_no_other(shop: Shop):
    other: Customer = make_customer()
    ingest([shop.record()])
    assert not UsageEvent.objects.for_org(other.org).exists()


def test_reasoning_is_charged_at_its_own_price_where_it_has_one(shop: Shop):
    plain = shop.record(completion_tokens=5, reasoning_tokens=3)
    dear = price_publish(
        sku=shop.model.id,
        input_picousd=INPUT,
        cached_input_picousd=CACHED,
        output_picousd=OUTPUT,
        reasoning_picousd=3 * OUTPUT,
    )
    priced = make_record(shop.org.id, shop.model, dear, completion_tokens=5, reasoning_tokens=3)
    usage_ingest(source="r", log_id="log", after=0, records=[plain, priced], next_offset=2)
    costs = {str(event.request_id): event.cost_picousd for event in UsageEvent.objects.all()}
    assert costs == {plain.request_id: COST, priced.request_id: COST + 6 * OUTPUT}
    assert set(UsageEvent.objects.values_list("reasoning_tokens", flat=True)) == {3}
    assert shop.balance == CREDIT - sum(costs.values())


def test_more_reasoning_than_was_made_is_parked(shop: Shop):
    record = shop.record(completion_tokens=5, reasoning_tokens=6)
    assert usage_ingest(source="r", log_id="log", after=0, records=[record], next_offset=1).parked == 1
    assert "contradict" in ParkedUsage.objects.get().reason
