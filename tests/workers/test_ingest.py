"""Usage logs become events, money and true balances; once each, whatever fails in between."""

import uuid

import pytest
import redis

from kindling_admission import hold_place
from kindling_billing import holds
from kindling_billing.models import LedgerTransaction
from kindling_billing.selectors import balance_get
from kindling_billing.services import price_publish
from kindling_fake_driver import FakeDriver, FakeLog
from kindling_platform.usage.comparisons import COMPARED_AT, DRIFT_KEY
from kindling_platform.usage.models import ParkedUsage, UsageCursor, UsageEvent
from kindling_rows import DOLLAR, RECORD_COST_PICOUSD, Shop, make_shop
from kindling_workers.drivers.base import DriverUnreachable, UsagePage
from kindling_workers.ingest import Ingested, logs_ingest
from kindling_workers.valkey import valkey_client
from kindling_workers.wallets import Wallets

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def driver() -> FakeDriver:
    return FakeDriver()


@pytest.fixture
def shop() -> Shop:
    return make_shop()


@pytest.fixture
def valkey() -> "redis.Redis":
    return valkey_client()


@pytest.fixture
def wallets(valkey: "redis.Redis") -> Wallets:
    return Wallets(valkey)


def hold(valkey: "redis.Redis", shop: Shop, request_id: str, nano: int = 5_000) -> None:
    """What the gateway does when it admits a request."""
    balance = balance_get(owner_id=shop.org.id)
    hold_place(valkey, shop.org.id, request_id, nano=nano, picousd=balance.picousd, version=balance.version)


def wallet_nano(valkey: "redis.Redis", shop: Shop) -> tuple[int, int]:
    """(balance, held) in Valkey."""
    balance, held = valkey.hmget(holds.wallet_key(shop.org.id), ["b", "h"])
    return int(balance), int(held)


def assert_billed(shop: Shop, requests: int) -> None:
    assert UsageEvent.objects.filter(organisation_id=shop.org.id).count() == requests
    posted = LedgerTransaction.objects.filter(source_type="usage", entries__account__owner_id=shop.org.id)
    assert posted.distinct().count() == requests
    assert balance_get(owner_id=shop.org.id).picousd == DOLLAR - requests * RECORD_COST_PICOUSD


def test_a_record_is_billed_and_its_hold_goes(
    driver: FakeDriver, shop: Shop, wallets: Wallets, valkey: "redis.Redis"
):
    record = shop.record()
    hold(valkey, shop, record.request_id)
    driver.write(shop.replica, record)

    done = logs_ingest(driver, wallets)

    assert (done.records, done.inserted, done.failed, done.untold) == (1, 1, [], set())
    assert_billed(shop, 1)
    assert wallet_nano(valkey, shop) == ((DOLLAR - RECORD_COST_PICOUSD) // 1000, 0)


def test_running_again_finds_nothing_new(driver: FakeDriver, shop: Shop, wallets: Wallets):
    driver.write(shop.replica, shop.record())
    logs_ingest(driver, wallets)
    driver.calls.clear()
    assert logs_ingest(driver, wallets).records == 0
    assert driver.calls == [("usage_list", "")], "a log at its cursor is not read again"
    assert_billed(shop, 1)


def test_many_pages_are_drained_in_one_run(driver: FakeDriver, shop: Shop, wallets: Wallets):
    for _ in range(1203):
        driver.write(shop.replica, shop.record())
    done = logs_ingest(driver, wallets)
    assert (done.records, done.inserted) == (1203, 1203)
    assert_billed(shop, 1203)


def test_the_same_request_in_two_logs_is_billed_once(driver: FakeDriver, shop: Shop, wallets: Wallets):
    record = shop.record()
    driver.write(shop.replica, record)
    driver.write("dep_other-g1-r0", record)
    logs_ingest(driver, wallets)
    assert_billed(shop, 1)


def test_a_failure_of_ours_is_recorded_and_free(driver: FakeDriver, shop: Shop, wallets: Wallets):
    driver.write(shop.replica, shop.record(finish="error"))
    logs_ingest(driver, wallets)
    event = UsageEvent.objects.get(organisation_id=shop.org.id)
    assert (event.billable, event.cost_picousd) == (False, 0)
    assert balance_get(owner_id=shop.org.id).picousd == DOLLAR


def test_one_broken_log_does_not_hold_up_the_others(driver: FakeDriver, shop: Shop, wallets: Wallets):
    driver.write("a-broken", shop.record())
    driver.broken.add("a-broken")
    driver.write(shop.replica, shop.record())
    done = logs_ingest(driver, wallets)
    assert done.failed == ["a-broken"]
    assert_billed(shop, 1)
    driver.broken.clear()
    logs_ingest(driver, wallets)
    assert_billed(shop, 2)


def test_a_record_that_nobody_can_be_billed_for_is_kept_and_the_rest_goes_on(
    driver: FakeDriver, shop: Shop, wallets: Wallets
):
    context = shop.record().context
    strange = [
        shop.record(context="not json"),
        shop.record(context=context.replace(shop.org.id, "org_nobody")),
        shop.record(context=context.replace(shop.price.id, "prc_nothing")),
        shop.record(request_id="not-a-uuid"),
        shop.record(cached_tokens=11),
        shop.record(prompt_tokens=2**40),
        shop.record(adapter="nul \0"),
        shop.record(finished_ms=2**62),
    ]
    for record in strange:
        driver.write(shop.replica, record)
    driver.write(shop.replica, shop.record())
    done = logs_ingest(driver, wallets)
    assert done.failed == []
    assert_billed(shop, 1)
    assert ParkedUsage.objects.filter(source=shop.replica).count() == len(strange)
    assert all(parked.reason for parked in ParkedUsage.objects.all())
    assert UsageCursor.objects.get(source=shop.replica).offset == len(strange) + 1


def test_a_record_that_the_database_refuses_is_set_aside_alone(
    driver: FakeDriver, shop: Shop, wallets: Wallets
):
    dear = price_publish(
        sku=shop.model.id, input_picousd=DOLLAR, cached_input_picousd=DOLLAR, output_picousd=DOLLAR
    )
    context = shop.record().context.replace(shop.price.id, dear.id)
    unpayable = [shop.record(context=context, prompt_tokens=90_000_000) for _ in range(2)]
    for record in unpayable:
        driver.write(shop.replica, shop.record())
        driver.write(shop.replica, record)
    driver.write(shop.replica, shop.record())

    done = logs_ingest(driver, wallets)

    assert (done.records, done.inserted, done.parked, done.failed) == (5, 3, 2, [])
    assert_billed(shop, 3)
    parked = {str(row.request_id): row for row in ParkedUsage.objects.filter(source=shop.replica)}
    assert set(parked) == {record.request_id for record in unpayable}
    assert all("refuse" in row.reason for row in parked.values())
    assert logs_ingest(driver, wallets).records == 0


def test_a_log_made_anew_is_read_from_its_beginning(driver: FakeDriver, shop: Shop, wallets: Wallets):
    for _ in range(3):
        driver.write(shop.replica, shop.record())
    logs_ingest(driver, wallets)
    driver.logs[shop.replica] = FakeLog(log_id="another", records=[shop.record()])
    logs_ingest(driver, wallets)
    assert_billed(shop, 4)


@pytest.mark.parametrize("left", [0, 2])
def test_a_log_that_lost_its_end_is_read_again_and_what_comes_is_billed(
    driver: FakeDriver, shop: Shop, wallets: Wallets, left: int
):
    for _ in range(5):
        driver.write(shop.replica, shop.record())
    logs_ingest(driver, wallets)
    log = driver.logs[shop.replica]
    log.records = log.records[:left]
    logs_ingest(driver, wallets)
    assert UsageCursor.objects.get(source=shop.replica).offset == left
    for _ in range(7):  # more than were lost
        driver.write(shop.replica, shop.record())
    assert logs_ingest(driver, wallets).inserted == 7
    assert_billed(shop, 12)


def test_valkey_away_delays_the_copy_and_not_the_books(driver: FakeDriver, shop: Shop, valkey: "redis.Redis"):
    record = shop.record()
    hold(valkey, shop, record.request_id)
    driver.write(shop.replica, record)
    gone = redis.Redis(port=1, socket_connect_timeout=0.2)

    done = logs_ingest(driver, Wallets(gone))

    assert done.untold == {shop.org.id}
    assert_billed(shop, 1)
    assert wallet_nano(valkey, shop) == (DOLLAR // 1000, 5_000)
    refreshed = Wallets(valkey).refresh()
    assert (refreshed.behind, refreshed.drifted, refreshed.holds_dropped) == (1, 0, 1)
    assert wallet_nano(valkey, shop) == ((DOLLAR - RECORD_COST_PICOUSD) // 1000, 0)


def test_a_silent_agent_is_an_error_of_the_whole_run(driver: FakeDriver, wallets: Wallets):
    driver.down = True
    with pytest.raises(DriverUnreachable):
        logs_ingest(driver, wallets)


def test_two_workers_at_once_bill_once(driver: FakeDriver, shop: Shop, wallets: Wallets):
    for _ in range(20):
        driver.write(shop.replica, shop.record())

    class Interrupted(FakeDriver):
        """A second worker does the same work between this one's read and its booking."""

        def usage_read(self, replica: str, *, after: int, limit: int) -> UsagePage:
            page = super().usage_read(replica, after=after, limit=limit)
            if after == 0:
                assert logs_ingest(driver, wallets).inserted == 20
            return page

    other = Interrupted()
    other.logs = driver.logs
    assert logs_ingest(other, wallets) == Ingested(records=20, inserted=0)
    assert_billed(shop, 20)


def test_a_wallet_that_drifted_is_put_right_and_counted(shop: Shop, wallets: Wallets, valkey: "redis.Redis"):
    hold(valkey, shop, str(uuid.uuid4()))
    valkey.hincrby(holds.wallet_key(shop.org.id), "b", 777)
    refreshed = wallets.refresh()
    assert (refreshed.drifted, refreshed.drift_nano, refreshed.holds_dropped) == (1, 777, 0)
    assert wallet_nano(valkey, shop) == (DOLLAR // 1000, 5_000)
    assert wallets.refresh().drifted == 0


def test_a_sum_of_holds_that_is_none_is_put_right_and_counted(
    shop: Shop, wallets: Wallets, valkey: "redis.Redis"
):
    hold(valkey, shop, str(uuid.uuid4()))
    valkey.hincrby(holds.wallet_key(shop.org.id), "h", -4_000)
    refreshed = wallets.refresh()
    assert (refreshed.drifted, refreshed.drift_nano, refreshed.holds_drift_nano) == (1, 0, 4_000)
    assert wallet_nano(valkey, shop) == (DOLLAR // 1000, 5_000)
    assert valkey.hget(DRIFT_KEY, "holds_drift_nano") == "4000"
    assert int(valkey.hget(DRIFT_KEY, COMPARED_AT)) > 0
    assert wallets.refresh().holds_drift_nano == 0


@pytest.fixture(autouse=True)
def empty_valkey(valkey: "redis.Redis") -> None:
    valkey.flushdb()
