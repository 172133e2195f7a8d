"""The task that measures models: figures of booked requests are there after it, and runs at once are as one."""

import threading
from types import SimpleNamespace

import pytest
from django.db import OperationalError, connection

from kindling_platform.catalog.models import ModelSpeed
from kindling_platform.usage.services import usage_ingest
from kindling_rows import make_shop
from kindling_workers.schedule import BEAT_SCHEDULE
from kindling_workers.tasks import catalog
from kindling_workers.tasks.catalog import measure
from kindling_workers.turns import turn_taken

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def rested(monkeypatch: pytest.MonkeyPatch) -> None:
    """However long it took on a busy machine, the next run measures again."""
    monkeypatch.setattr(catalog, "REST", 0)
    monkeypatch.setattr(catalog._Rest, "until_s", 0.0)


def test_runs_at_the_same_time_leave_one_row_for_each_model():
    shop = make_shop()
    records = [shop.record() for _ in range(25)]
    usage_ingest(source=shop.replica, log_id="log", after=0, records=records, next_offset=25)

    def run() -> None:
        try:
            measure()
        finally:
            connection.close()

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (row,) = ModelSpeed.objects.all()
    assert (row.model_id, row.organisation_id, row.samples) == (shop.model.id, shop.org.id, 25)
    assert (row.first_token_p50_ms, row.duration_p50_ms) == (10, 50)


def test_while_another_worker_measures_this_one_leaves():
    shop = make_shop()
    records = [shop.record() for _ in range(25)]
    usage_ingest(source=shop.replica, log_id="log", after=0, records=records, next_offset=25)
    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        with turn_taken("catalog.measure"):
            held.set()
            done.wait(10)
        connection.close()

    other = threading.Thread(target=hold)
    other.start()
    held.wait(10)
    measure()
    assert not ModelSpeed.objects.exists()
    done.set()
    other.join()
    measure()
    assert ModelSpeed.objects.count() == 1


def test_a_database_that_was_busy_with_it_rests(monkeypatch: pytest.MonkeyPatch):
    moments, runs = iter([100.0, 103.0, 120.0, 281.0, 281.5, 282.0, 282.1]), []
    monkeypatch.setattr(catalog, "REST", 60)
    monkeypatch.setattr(catalog, "speeds_measure", lambda: runs.append(1))
    monkeypatch.setattr(catalog, "time", SimpleNamespace(monotonic=lambda: next(moments)))
    measure()  # for three seconds, so that the next may come after three minutes
    measure()
    assert len(runs) == 1
    measure()
    measure()
    assert len(runs) == 3


def test_it_rests_behind_a_measurement_that_was_given_up(monkeypatch: pytest.MonkeyPatch):
    moments, runs = iter([100.0, 160.0, 161.0, 3701.0, 3701.5]), []

    def given_up() -> None:
        runs.append(1)
        raise OperationalError("canceling statement due to statement timeout")

    monkeypatch.setattr(catalog, "REST", 60)
    monkeypatch.setattr(catalog, "paces_measure", given_up)
    monkeypatch.setattr(catalog, "time", SimpleNamespace(monotonic=lambda: next(moments)))
    measure()
    measure()
    assert len(runs) == 1
    measure()
    assert len(runs) == 2


def test_it_is_sent_every_minute():
    entry = BEAT_SCHEDULE["measure models"]
    assert (entry["task"], entry["schedule"]) == (measure.name, 60.0)
