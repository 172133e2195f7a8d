"""The worker who bills GPU time: killed at any step, every hour is posted once, and gateways know the balance."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
import redis

from kindling_billing import clocks, holds
from kindling_billing.models import LedgerTransaction
from kindling_billing.selectors import balance_get
from kindling_crashes import JOBS, Forks
from kindling_fake_driver import FakeDriver
from kindling_gpu_time import GPU_MS, GPU_POINTS, HOUR_COST, gpu_price, held
from kindling_platform.common.clock import now
from kindling_platform.common.crash_points import KILLED
from kindling_platform.deployments.models import Deployment, GpuHour, ReplicaInterval
from kindling_platform.deployments.proofs import platform_prove
from kindling_rows import DOLLAR, Shop, make_shop
from kindling_workers.billing import gpu_time_bill
from kindling_workers.reconciler import deployment_reconcile
from kindling_workers.tasks.deployments import bill
from kindling_workers.valkey import valkey_client
from kindling_workers.wallets import Wallets

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.timeout(120)]


@pytest.fixture
def valkey() -> Iterator["redis.Redis"]:
    client = valkey_client()
    client.flushdb()
    yield client


def whole_hours(shop: Shop, hours: int, name: str) -> ReplicaInterval:
    """An interval of so many hours that ended before this one began."""
    end = now().replace(minute=0, second=0, microsecond=0)
    return held(shop.deployment, start=end - timedelta(hours=hours), lasts=timedelta(hours=hours), name=name)


def spent(shop: Shop) -> int:
    return DOLLAR - balance_get(owner_id=shop.org.id).picousd


def test_killed_at_any_step_the_next_run_puts_it_right(valkey: "redis.Redis", tmp_path: Path):
    shop = make_shop()
    Deployment.objects.update(desired_state="stopped")
    gpu_price(shop.model.id, since=now() - timedelta(days=2))
    with Forks(JOBS, tmp_path / "log") as forks:
        for number, point in enumerate(GPU_POINTS, start=1):
            whole_hours(shop, 3, f"r{number}")
            forks.tell([point, "gpu_time", []])
            assert forks.read() == KILLED, point
            gpu_time_bill(Wallets(valkey))
            assert spent(shop) == number * 3 * HOUR_COST
            assert LedgerTransaction.objects.filter(source_type="gpu_time").count() == number * 3
            assert platform_prove().findings == []
    balance = balance_get(owner_id=shop.org.id)
    Wallets(valkey).refresh()
    gpu_time_bill(Wallets(valkey))
    kept = valkey.hget(holds.wallet_key(shop.org.id), "b")
    assert kept is None or int(kept) == holds.balance_nano(balance.picousd)


def test_gateways_hear_of_the_new_balance_at_once(valkey: "redis.Redis"):
    shop = make_shop()
    gpu_price(shop.model.id, since=now() - timedelta(days=2))
    whole_hours(shop, 2, "r")
    done = gpu_time_bill(Wallets(valkey))
    assert (done.posted, done.cost_picousd) == (2, 2 * HOUR_COST)
    kept = valkey.hget(holds.wallet_key(shop.org.id), "b")
    assert int(kept or 0) == holds.balance_nano(DOLLAR - 2 * HOUR_COST)


def test_the_hour_that_takes_the_last_credit_stops_the_deployment_and_its_replicas(valkey: "redis.Redis"):
    shop, driver = make_shop(), FakeDriver()
    gpu_price(shop.model.id, DOLLAR // 3_600_000 + 1, since=now() - timedelta(days=2))
    assert deployment_reconcile(driver, shop.deployment.id)
    assert len(driver.replica_list()) == 1
    whole_hours(shop, 1, "r")
    gpu_time_bill(Wallets(valkey))
    assert balance_get(owner_id=shop.org.id).picousd < 0
    assert Deployment.objects.get().desired_state == "stopped"
    assert deployment_reconcile(driver, shop.deployment.id)
    assert {status.state for status in driver.replica_list()} <= {"stopped"}


def test_a_replica_that_runs_is_billed_from_its_heartbeats(valkey: "redis.Redis"):
    """From the reconciler's own observation to the ledger; the time is set back, as nobody waits for an hour."""
    shop, driver = make_shop(), FakeDriver()
    gpu_price(shop.model.id, since=now() - timedelta(days=2))
    for _ in range(3):
        Deployment.objects.update(lease_token="", lease_expires_at=None)
        assert deployment_reconcile(driver, shop.deployment.id)
    interval = ReplicaInterval.objects.get()
    assert interval.billed_until == interval.ready_at
    hour = now().replace(minute=0, second=0, microsecond=0)
    start = hour - timedelta(hours=1)
    ReplicaInterval.objects.update(
        started_at=start, ready_at=start, billed_until=start, last_seen_at=max(now(), hour)
    )
    assert gpu_time_bill(Wallets(valkey)).posted == 1
    assert (spent(shop), GpuHour.objects.get().held_ms * GPU_MS) == (HOUR_COST, HOUR_COST)


def test_the_tick_bills_and_a_wrong_clock_bills_nothing(
    valkey: "redis.Redis", monkeypatch: pytest.MonkeyPatch
):
    shop = make_shop()
    gpu_price(shop.model.id, since=now() - timedelta(days=2))
    whole_hours(shop, 1, "r")
    real = clocks.utc_now
    monkeypatch.setattr(clocks, "utc_now", lambda: real() + timedelta(days=40))
    bill()
    assert spent(shop) == 0
    monkeypatch.setattr(clocks, "utc_now", real)
    bill()
    assert spent(shop) == HOUR_COST
