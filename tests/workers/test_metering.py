"""How long replicas held their device, from heartbeat to heartbeat, never beyond the last; how long they computed."""

import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from django.db import IntegrityError, transaction

from kindling_engine_process import EngineProcess, wait_until
from kindling_fake_driver import FakeDriver
from kindling_gpu_time import gpu_price
from kindling_platform.deployments import intervals, services
from kindling_platform.deployments.accrued import accrued_map
from kindling_platform.deployments.gpu_time import interval_bill, interval_list_unbilled
from kindling_platform.deployments.intervals import interval_look, intervals_end_unheard
from kindling_platform.deployments.margins import margin_days
from kindling_platform.deployments.models import Deployment, GpuHour, Replica, ReplicaHour, ReplicaInterval
from kindling_platform.deployments.proofs import platform_prove
from kindling_rows import Shop, make_shop
from kindling_workers import metering, reconciler
from kindling_workers.metering import computed_ask, computed_read, replicas_look
from kindling_workers.reconciler import deployment_reconcile

pytestmark = pytest.mark.django_db
SECOND = 10**6
START = datetime(2026, 11, 3, 23, 59, 30, tzinfo=UTC)


class Clock:
    """The hands of every clock that the reconciler and the intervals read."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.time = START
        for module in (intervals, services, reconciler, metering):
            monkeypatch.setattr(module, "now", lambda: self.time)

    def forward(self, seconds: float) -> None:
        self.time += timedelta(seconds=seconds)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


@pytest.fixture
def driver() -> FakeDriver:
    return FakeDriver()


@pytest.fixture
def shop() -> Shop:
    return make_shop()


def step(driver: FakeDriver, shop: Shop, clock: Clock, *, times: int = 1, every_s: float = 2) -> None:
    for _ in range(times):
        clock.forward(every_s)
        Deployment.objects.update(lease_token="", lease_expires_at=None)
        assert deployment_reconcile(driver, shop.deployment.id)


def held() -> list[tuple[float, bool]]:
    """Seconds of each interval, oldest first, and whether it has ended."""
    rows = ReplicaInterval.objects.order_by("id")
    return [((row.last_seen_at - row.started_at).total_seconds(), row.ended_at is not None) for row in rows]


def test_heartbeats_lengthen_one_interval(driver: FakeDriver, shop: Shop, clock: Clock):
    step(driver, shop, clock, times=11)
    assert held() == [(20, False)]
    row = ReplicaInterval.objects.get()
    assert (row.model_id, row.deployment_id, row.replica_name) == (
        shop.model.id,
        shop.deployment.id,
        shop.replica,
    )


def test_a_stop_ends_it_at_the_last_heartbeat(driver: FakeDriver, shop: Shop, clock: Clock):
    step(driver, shop, clock, times=6)
    Deployment.objects.update(desired_state="stopped")
    step(driver, shop, clock, times=3)
    assert held() == [(10, True)]


def test_another_process_is_another_interval(driver: FakeDriver, shop: Shop, clock: Clock):
    step(driver, shop, clock, times=6)
    driver.crash(shop.replica)
    step(driver, shop, clock, times=5)
    first, second = ReplicaInterval.objects.order_by("id")
    assert (first.pid, second.pid) == (1001, 1002)
    assert first.ended_at == first.last_seen_at <= second.started_at
    assert second.ended_at is None


def test_an_organisation_pays_from_the_moment_its_engine_is_ready(
    driver: FakeDriver, shop: Shop, clock: Clock
):
    step(driver, shop, clock, times=6)
    row = ReplicaInterval.objects.get()
    assert row.ready_at is not None
    assert row.started_at < row.ready_at == row.billed_until < row.last_seen_at
    driver.crash(shop.replica)
    step(driver, shop, clock, times=5)
    first, second = ReplicaInterval.objects.order_by("id")
    assert (first.ready_at, second.ready_at == second.billed_until) == (row.ready_at, True)
    assert second.ready_at is not None and second.ready_at > second.started_at


def test_an_engine_that_dies_while_it_loads_costs_nothing(driver: FakeDriver, shop: Shop, clock: Clock):
    gpu_price(shop.model.id)
    driver.never_ready = True
    for _ in range(5):
        step(driver, shop, clock, times=3)
        driver.crash(shop.replica)
    step(driver, shop, clock, times=3)
    rows = ReplicaInterval.objects.order_by("id")
    assert [(row.ready_at, row.billed_until) for row in rows] == [(None, None)] * 6
    later = clock.time + timedelta(hours=2)
    assert (interval_list_unbilled(moment=later), accrued_map(owner_ids=[shop.org.id])) == ([], {})
    # The try that succeeds is paid from there on, and the others never.
    driver.never_ready = False
    step(driver, shop, clock, times=6)
    Deployment.objects.update(desired_state="stopped")
    step(driver, shop, clock, times=3)
    (interval_id,) = interval_list_unbilled(moment=later)
    assert interval_bill(interval_id=interval_id, moment=later).posted == 1
    last = ReplicaInterval.objects.get(id=interval_id)
    assert last.ready_at is not None and last.ready_at > last.started_at
    assert GpuHour.objects.get().held_ms == (last.last_seen_at - last.ready_at) // timedelta(milliseconds=1)
    assert platform_prove().findings == []


def test_a_lost_host_costs_nothing_after_its_last_heartbeat(driver: FakeDriver, shop: Shop, clock: Clock):
    step(driver, shop, clock, times=6)
    seen = Replica.objects.get().heartbeat_at
    driver.down = True
    step(driver, shop, clock, times=30)
    assert held() == [(10, True)]
    assert Replica.objects.get().heartbeat_at == seen, "our conclusion is no heartbeat"
    # When it is heard of again, even with the same process, a new time begins.
    driver.down = False
    step(driver, shop, clock, times=4)
    assert held() == [(10, True), (6, False)]


def test_a_silence_of_ours_is_a_gap_and_not_time(driver: FakeDriver, shop: Shop, clock: Clock):
    step(driver, shop, clock, times=3)
    step(driver, shop, clock, every_s=61)
    step(driver, shop, clock, times=2)
    assert held() == [(4, True), (4, False)]
    step(driver, shop, clock, every_s=59)
    assert held()[1] == (63, False)


def test_a_replica_without_a_row_is_ended_by_the_sweep(driver: FakeDriver, shop: Shop, clock: Clock):
    step(driver, shop, clock, times=3)
    clock.forward(60)
    assert intervals_end_unheard() == 0
    clock.forward(1)
    assert intervals_end_unheard() == 1
    assert (held(), intervals_end_unheard()) == ([(4, True)], 0)


def test_a_replica_has_one_open_interval(driver: FakeDriver, shop: Shop, clock: Clock):
    step(driver, shop, clock, times=3)
    row = ReplicaInterval.objects.get()
    row.pk = None
    with pytest.raises(IntegrityError), transaction.atomic():
        row.save()


def worked() -> tuple[int, int]:
    """Busy and looked-at seconds over all hours."""
    hours = ReplicaHour.objects.all()
    return sum(row.busy_us for row in hours) // SECOND, sum(row.looked_us for row in hours) // SECOND


def look(shop: Shop, clock: Clock, computed_s: float) -> None:
    interval_look(name=shop.replica, engine_us=int(computed_s * SECOND), at=clock.time)


def test_what_an_engine_computed_is_added_once(driver: FakeDriver, shop: Shop, clock: Clock):
    step(driver, shop, clock, times=11)
    look(shop, clock, 5)
    look(shop, clock, 5)
    assert worked() == (5, 20)
    step(driver, shop, clock, times=10)
    look(shop, clock, 25)
    # A counter that fell began anew, and no engine computes for longer than time passes.
    step(driver, shop, clock, times=5)
    look(shop, clock, 4)
    step(driver, shop, clock, times=5)
    look(shop, clock, 1000)
    assert worked() == (5 + 20 + 4 + 10, 60)
    assert ReplicaHour.objects.count() == 2, "midnight has passed"


def test_who_is_not_there_is_not_looked_at(driver: FakeDriver, shop: Shop, clock: Clock):
    look(shop, clock, 5)
    step(driver, shop, clock, times=3)
    clock.forward(-60)
    look(shop, clock, 5)
    assert worked() == (0, 0)


def test_a_day_is_what_its_part_of_the_time_costs(driver: FakeDriver, shop: Shop, clock: Clock):
    step(driver, shop, clock, times=31)
    look(shop, clock, 6)
    midnight = datetime(2026, 11, 4, tzinfo=UTC)
    days = margin_days(
        start=midnight - timedelta(days=1), end=midnight + timedelta(days=1), model_id=shop.model.id
    )
    seen = {
        day.day: (margin.running_us // SECOND, margin.busy_us // SECOND) for (_, day), margin in days.items()
    }
    assert seen == {3: (28, 0), 4: (32, 6)}
    assert margin_days(start=midnight, end=midnight + timedelta(days=1), model_id="mdl_none") == {}


class Answers(BaseHTTPRequestHandler):
    """Answers of an engine that is not quite well."""

    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/metrics" else 404)
        self.end_headers()
        self.wfile.write(b"# HELP x\nkindling_engine_step_seconds_total 7.5\n")

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def answering() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_every_ready_replica_is_asked_and_silence_is_no_answer(
    driver: FakeDriver, shop: Shop, clock: Clock, answering: str
):
    step(driver, shop, clock, times=5)
    Replica.objects.update(url=answering)
    silent = make_shop()
    step(driver, silent, clock, times=5)
    Replica.objects.filter(name=silent.replica).update(url="http://127.0.0.1:9")
    assert replicas_look() == 1
    assert worked() == (7, 18)


@pytest.mark.parametrize("text", [b"", b"kindling_engine_step_seconds_total", b"kindling_engine_step_seconds_total x",
                                  b"kindling_engine_step_seconds_total -1", b"kindling_engine_step_seconds_total NaN",
                                  b"kindling_engine_step_seconds_total inf"])  # fmt: skip
def test_a_counter_that_is_none_is_not_believed(text: bytes):
    assert computed_read(text) is None


def test_a_real_engine_says_how_long_it_computed(tmp_path: Path):
    with EngineProcess(tmp_path) as engine:
        assert engine.chat(max_tokens=20, ignore_eos=True).status_code == 200
        wait_until(lambda: (computed_ask(engine.url) or 0) > 0)
    assert computed_ask(engine.url) is None
