"""Turns, ticks and complaints: one run at a time, and trouble that is said once."""

import threading

import pytest
from django.db import OperationalError, connection

from kindling_workers.complaints import Complaints
from kindling_workers.drivers.base import DriverUnreachable
from kindling_workers.ticks import tick
from kindling_workers.turns import turn_taken

pytestmark = pytest.mark.django_db(transaction=True)


def take_elsewhere(name: str) -> bool:
    """Whether a run on another connection would get the turn."""
    taken: list[bool] = []

    def run() -> None:
        try:
            with turn_taken(name) as mine:
                taken.append(mine)
        finally:
            connection.close()

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return taken[0]


def test_one_run_at_a_time_takes_the_turn():
    with turn_taken("job") as mine:
        assert mine
        assert not take_elsewhere("job")
        assert take_elsewhere("another job")
    assert take_elsewhere("job")


def test_a_failed_run_gives_its_turn_back():
    with pytest.raises(RuntimeError), turn_taken("job"):
        raise RuntimeError
    assert take_elsewhere("job")


def test_a_lost_connection_gives_its_turn_back():
    with turn_taken("job") as mine:
        assert mine
        connection.close()
    assert take_elsewhere("job")


def test_the_server_looks_whether_the_holder_of_a_turn_still_lives():
    connection.close()
    with turn_taken("job"), connection.cursor() as cursor:
        cursor.execute(
            "SELECT setting FROM pg_settings WHERE name = 'tcp_keepalives_idle' AND source = 'session'"
        )
        assert cursor.fetchall()


@pytest.mark.parametrize(
    "away", [DriverUnreachable("agent_unreachable", "Silent."), OperationalError("gone")]
)
def test_a_missing_server_ends_a_tick_quietly(away: Exception):
    with tick("job"):
        raise away
    assert take_elsewhere("job")


def test_a_fault_of_ours_is_not_hushed_up():
    with pytest.raises(ZeroDivisionError), tick("job"):
        raise ZeroDivisionError


def test_trouble_is_said_once_and_its_end_too(caplog: pytest.LogCaptureFixture):
    book = Complaints()
    for _ in range(5):
        book.complain("agent", "silent")
    book.content("agent")
    book.content("agent")
    said = [record.msg["event"] for record in caplog.records]
    assert said == ["trouble", "well again"]
