"""Old usage logs go, and none that is not booked or that somebody writes."""

from dataclasses import replace
from datetime import timedelta

import pytest

from kindling_driver_conformance import SPEC
from kindling_fake_driver import FakeDriver
from kindling_platform.common.clock import now
from kindling_platform.usage.models import UsageCursor, UsageEvent
from kindling_rows import make_shop
from kindling_workers.drivers.base import DriverUnreachable
from kindling_workers.ingest import logs_ingest
from kindling_workers.usage_logs import usage_logs_forget
from kindling_workers.valkey import valkey_client
from kindling_workers.wallets import Wallets

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def kept_for_days(settings) -> None:
    settings.KINDLING_ENV = replace(settings.KINDLING_ENV, keep_usage_logs_days=70)


def days_ago_ms(days: float) -> int:
    return int((now() - timedelta(days=days)).timestamp() * 1000)


def test_what_is_old_booked_and_written_by_nobody_goes():
    driver, shop = FakeDriver(), make_shop()
    driver.ensure(SPEC)
    for name, days in ((SPEC.name, 90), ("old", 71), ("old~2", 71), ("young", 69)):
        driver.write(name, shop.record())
        driver.logs[name].written_ms = days_ago_ms(days)
    assert usage_logs_forget(driver) == 0  # nothing is booked yet
    assert logs_ingest(driver, Wallets(valkey_client())).inserted == 4
    driver.write("old~2", shop.record())
    assert usage_logs_forget(driver) == 1
    assert sorted(driver.logs) == [SPEC.name, "old~2", "young"]
    assert not UsageCursor.objects.filter(source="old").exists()
    assert logs_ingest(driver, Wallets(valkey_client())).inserted == 1
    assert usage_logs_forget(driver) == 1
    assert sorted(driver.logs) == [SPEC.name, "young"]
    assert UsageEvent.objects.count() == 5
    assert UsageCursor.objects.count() == 2


def test_for_ever_is_for_ever_and_a_silent_agent_loses_nothing(settings):
    driver, shop = FakeDriver(), make_shop()
    driver.write("old", shop.record())
    assert logs_ingest(driver, Wallets(valkey_client())).inserted == 1
    driver.down = True
    with pytest.raises(DriverUnreachable):
        usage_logs_forget(driver)
    driver.down = False
    settings.KINDLING_ENV = replace(settings.KINDLING_ENV, keep_usage_logs_days=0)
    assert usage_logs_forget(driver) == 0
    assert list(driver.logs) == ["old"] and UsageCursor.objects.count() == 1
