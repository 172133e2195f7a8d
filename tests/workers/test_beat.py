"""Beat sends its ticks whatever the clock on the wall does."""

from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from celery.beat import ScheduleEntry

from kindling_workers import beat
from kindling_workers.app import app
from kindling_workers.schedule import BEAT_SCHEDULE


class Clocks:
    """The time on the wall, which may be set, and that which only passes."""

    def __init__(self) -> None:
        self.wall, self.steady = 1_800_000_000.0, 500.0

    def time(self) -> float:
        return self.wall

    def monotonic(self) -> float:
        return self.steady

    def now(self, _app: object = None) -> datetime:
        return datetime.fromtimestamp(self.wall, UTC)

    def wait(self, seconds: float) -> None:
        self.wall += seconds
        self.steady += seconds


@pytest.fixture
def clocks(monkeypatch: pytest.MonkeyPatch) -> Clocks:
    made = Clocks()
    monkeypatch.setattr(beat, "time", made, raising=False)
    monkeypatch.setattr(type(app), "now", made.now)
    return made


@pytest.fixture
def scheduler(clocks: Clocks, monkeypatch: pytest.MonkeyPatch) -> "Sent":
    monkeypatch.setattr(app.conf, "broker_url", "memory://")
    return Sent(app=app)


class Sent(beat.BoundedScheduler):
    """Counts what it would send."""

    counts: Counter[str]

    def apply_entry(self, entry: ScheduleEntry, producer: Any = None) -> None:
        self.counts[str(entry.task)] += 1

    def run(self, clocks: Clocks, seconds: int) -> Counter[str]:
        self.counts = Counter()
        for _ in range(seconds):
            while not self.tick():
                pass
            clocks.wait(1)
        return self.counts


@pytest.mark.parametrize("jump", [timedelta(0), timedelta(hours=-5), timedelta(days=3)])
def test_a_clock_that_is_set_stops_no_tick(scheduler: Sent, clocks: Clocks, jump: timedelta):
    scheduler.run(clocks, 30)
    clocks.wall += jump.total_seconds()
    counts = scheduler.run(clocks, 65)
    assert counts["usage.ingest"] >= 63
    assert counts["adapters.sweep"] >= 6
    assert counts.keys() >= {entry["task"] for entry in BEAT_SCHEDULE.values() if entry["schedule"] <= 60}
