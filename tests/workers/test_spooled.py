"""What gateways ship becomes events and money, once, whichever of the two witnesses is heard first."""

import uuid
from collections.abc import Callable
from datetime import timedelta

import msgspec
import pytest
from django.conf import settings

from kindling_billing.models import LedgerAccount, LedgerTransaction
from kindling_billing.proofs import books_prove
from kindling_billing.selectors import balance_get, ledger_sum
from kindling_billing.services import price_publish
from kindling_engine.protocol.usage_log import UsageRecord
from kindling_platform.common.clock import now
from kindling_platform.usage.models import ParkedUsage, SpooledUsage, UsageEvent, UsageHour, WitnessDrift
from kindling_platform.usage.services import usage_ingest
from kindling_platform.usage.spooled import LOG_WAIT, spool_book, spool_purge
from kindling_platform.usage.witnesses import Witnesses, witnesses_compare
from kindling_rows import DOLLAR, RECORD_COST_PICOUSD, Shop, make_shop

pytestmark = pytest.mark.django_db
FREE = 0


@pytest.fixture
def shop() -> Shop:
    return make_shop()


def ship(record: UsageRecord, verdict: str, *, ago: timedelta = timedelta(0)) -> SpooledUsage:
    """What a gateway's shipper writes."""
    return SpooledUsage.objects.create(
        request_id=uuid.UUID(record.request_id), source="gateway-1", verdict=verdict,
        record=msgspec.json.encode(record).decode(), shipped_at=now() - ago,
    )  # fmt: skip


def log(record: UsageRecord, *, source: str = "") -> None:
    """What an engine's log brings."""
    usage_ingest(source=source or record.request_id, log_id="log", after=0, records=[record], next_offset=100)


def spent(shop: Shop) -> int:
    return DOLLAR - balance_get(owner_id=shop.org.id).picousd


def assert_sound(shop: Shop, cost: int) -> None:
    """Rows, hours, ledger and portions of credit say the same."""
    assert spent(shop) == cost
    assert sum(event.cost_picousd for event in UsageEvent.objects.for_org(shop.org)) == cost
    assert sum(int(hour.cost_picousd) for hour in UsageHour.objects.for_org(shop.org)) == cost
    assert ledger_sum() == 0
    assert books_prove().findings == []


def test_final_counts_are_booked_without_the_engines_log(shop: Shop):
    ship(shop.record(), "closed")
    done = spool_book()
    assert (done.settled, done.inserted) == (1, 1)
    assert done.wallets[shop.org.id].picousd == DOLLAR - RECORD_COST_PICOUSD
    assert_sound(shop, RECORD_COST_PICOUSD)
    assert spool_book().settled == 0


@pytest.mark.parametrize("first", ["gateway", "engine"])
def test_both_witnesses_bill_once(shop: Shop, first: str):
    record = shop.record()
    ship(record, "closed")
    steps: list[Callable[[], object]] = [spool_book, lambda: log(record)]
    for step in steps if first == "gateway" else reversed(steps):
        step()
    assert_sound(shop, RECORD_COST_PICOUSD)
    row = SpooledUsage.objects.get()
    assert row.booked_at is not None
    assert row.logged_at is not None
    assert WitnessDrift.objects.count() == 0


@pytest.mark.parametrize("verdict", ["cut", "open"])
def test_a_cut_request_is_billed_as_the_engine_logged_it(shop: Shop, verdict: str):
    record = shop.record(completion_tokens=3, finish="cancelled")
    ship(msgspec.structs.replace(record, completion_tokens=0, prompt_tokens=0), verdict)
    assert spool_book().settled == 0
    log(record)
    assert spool_book().settled == 1
    assert_sound(shop, 10 * 100_000 + 3 * 400_000)


def test_a_row_that_comes_after_the_log_is_settled_at_once(shop: Shop):
    record = shop.record(finish="cancelled")
    log(record)
    ship(record, "cut")
    assert spool_book().settled == 1
    assert_sound(shop, RECORD_COST_PICOUSD)


def test_without_a_log_the_last_checkpoint_is_billed_and_a_late_log_is_drift(shop: Shop):
    record = shop.record(completion_tokens=64, finish="cancelled")
    ship(record, "open", ago=LOG_WAIT + timedelta(seconds=1))
    assert spool_book().inserted == 1
    cost = 10 * 100_000 + 64 * 400_000
    assert_sound(shop, cost)
    log(msgspec.structs.replace(record, completion_tokens=90))
    assert_sound(shop, cost)
    drift = WitnessDrift.objects.get()
    assert (drift.booked["completion_tokens"], drift.logged["completion_tokens"]) == (64, 90)
    assert drift.organisation_id == shop.org.id


@pytest.mark.parametrize("first", ["gateway", "engine"])
def test_a_failure_of_ours_is_free_whatever_the_engine_logged(shop: Shop, first: str):
    record = shop.record()
    failed = msgspec.structs.replace(record, prompt_tokens=0, completion_tokens=0, finish="error")
    if first == "engine":
        log(record)
        assert spent(shop) == RECORD_COST_PICOUSD
    ship(failed, "void")
    if first == "gateway":
        log(record)
    spool_book()
    event = UsageEvent.objects.get()
    assert (event.billable, event.cost_picousd, event.finish) == (False, FREE, "error")
    assert sum(hour.failed for hour in UsageHour.objects.all()) == 1
    assert_sound(shop, FREE)
    # What had been charged was given back and stands against the revenue as an adjustment.
    reversed_charges = LedgerTransaction.objects.filter(source_type="usage_reversal")
    assert reversed_charges.count() == (1 if first == "engine" else 0)
    adjusted = LedgerAccount.objects.filter(kind="adjustment").values_list("balance_picousd", flat=True)
    assert list(adjusted) == ([-RECORD_COST_PICOUSD] if first == "engine" else [])


def test_a_request_that_was_booked_and_then_found_to_have_failed_is_given_back_once(shop: Shop):
    record = shop.record()
    row = ship(record, "closed")
    spool_book()
    # As the gateway's insert does when a second process takes the request over.
    SpooledUsage.objects.filter(request_id=row.request_id).update(verdict="void", booked_at=None)
    assert spool_book().waived == 1
    SpooledUsage.objects.filter(request_id=row.request_id).update(booked_at=None)
    assert spool_book().waived == 0
    log(record)
    assert_sound(shop, FREE)


def test_witnesses_that_differ_are_kept_and_the_first_holds(shop: Shop):
    record = shop.record()
    ship(record, "closed")
    spool_book()
    log(msgspec.structs.replace(record, completion_tokens=6))
    assert_sound(shop, RECORD_COST_PICOUSD)
    assert WitnessDrift.objects.get().logged["completion_tokens"] == 6
    assert witnesses_compare().differing == 1


def test_the_comparison_counts_requests_of_one_witness(shop: Shop):
    old = {"started_ms": ms(20), "first_token_ms": ms(20), "finished_ms": ms(20)}
    log(shop.record(**old))
    ship(shop.record(**old), "closed", ago=timedelta(minutes=20))
    ship(shop.record(**old), "cut", ago=timedelta(minutes=20))
    assert witnesses_compare() == Witnesses(differing=0, only_engine=1, only_gateway=0, unbooked=2)
    spool_book()
    assert witnesses_compare() == Witnesses(differing=0, only_engine=1, only_gateway=1, unbooked=0)


def ms(minutes_ago: int) -> int:
    return int((now() - timedelta(minutes=minutes_ago)).timestamp() * 1000)


def test_what_cannot_be_billed_is_parked_and_holds_up_nothing(shop: Shop):
    ship(shop.record(context="{}"), "closed")
    ship(shop.record(), "closed")
    done = spool_book()
    assert (done.settled, done.inserted) == (2, 1)
    assert ParkedUsage.objects.get().source == "gateway"
    assert_sound(shop, RECORD_COST_PICOUSD)


def test_what_cannot_be_read_or_stored_is_set_aside_alone(shop: Shop):
    dear = price_publish(
        sku=shop.model.id, input_picousd=DOLLAR, cached_input_picousd=DOLLAR, output_picousd=DOLLAR
    )
    context = shop.record().context.replace(shop.price.id, dear.id)
    good = [shop.record() for _ in range(3)]
    torn = ship(shop.record(), "closed")
    SpooledUsage.objects.filter(request_id=torn.request_id).update(record='{"request_id": 7')
    ship(good[0], "closed")
    unpayable = ship(shop.record(context=context, prompt_tokens=90_000_000), "closed")
    ship(good[1], "closed")
    ship(good[2], "closed")
    done = spool_book()
    assert (done.settled, done.inserted) == (5, 3)
    assert sorted(done.request_ids[shop.org.id]) == sorted(one.request_id for one in good)
    assert done.wallets[shop.org.id].picousd == DOLLAR - 3 * RECORD_COST_PICOUSD
    parked = {row.request_id: row for row in ParkedUsage.objects.all()}
    assert parked.keys() == {torn.request_id, unpayable.request_id}
    assert parked[torn.request_id].record == {"text": '{"request_id": 7'}
    assert parked[unpayable.request_id].record["prompt_tokens"] == 90_000_000
    assert spool_book().settled == 0
    assert_sound(shop, 3 * RECORD_COST_PICOUSD)


def test_only_old_rows_that_are_booked_are_deleted(shop: Shop):
    ship(shop.record(), "closed", ago=timedelta(days=settings.KINDLING_ENV.keep_spool_days, hours=1))
    ship(shop.record(), "closed")
    assert spool_purge() == 0
    spool_book()
    assert spool_purge() == 1
    assert SpooledUsage.objects.count() == 1
