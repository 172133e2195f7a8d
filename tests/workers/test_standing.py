"""The task that looks at components: over the wire as customers do, and down where nothing answers."""

import threading
from dataclasses import replace

import pytest
from django.db import connection

from kindling_platform.common.clock import now
from kindling_platform.status.components import DOWN, LIMITED, UP, Seen
from kindling_platform.status.models import ComponentDay, ComponentState
from kindling_platform.status.samples import samples_keep
from kindling_workers.http import HttpAnswer
from kindling_workers.schedule import BEAT_SCHEDULE
from kindling_workers.standing import api_read, own_url
from kindling_workers.tasks.status import sample

pytestmark = pytest.mark.django_db(transaction=True)


def states() -> dict[str, str]:
    return dict(ComponentState.objects.values_list("key", "state"))


def test_a_web_process_that_answers_is_up_and_one_that_does_not_is_down(live_server, settings):
    settings.KINDLING_ENV = replace(settings.KINDLING_ENV, public_url=live_server.url)
    settings.KINDLING_GATEWAY_URL = live_server.url
    sample()
    assert states() == {"api": UP, "console": UP, "billing": UP, "checks": UP}
    assert ComponentDay.objects.count() == 4
    settings.KINDLING_GATEWAY_URL = "http://127.0.0.1:9"
    sample()
    assert states() == {"api": DOWN, "console": DOWN, "billing": UP, "checks": UP}


def test_samplers_at_the_same_time_count_a_minute_once():
    at, together = now(), threading.Barrier(4)

    def keep() -> None:
        together.wait()
        samples_keep([Seen("console", UP), Seen("api", UP)], at=at)
        connection.close()

    threads = [threading.Thread(target=keep) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert list(ComponentDay.objects.values_list("key", "up", "down").order_by("key")) == [
        ("api", 1, 0),
        ("console", 1, 0),
    ]


@pytest.mark.parametrize(
    ("answer", "state"),
    [
        (HttpAnswer(200, b'{"status": "ok"}'), UP),
        (HttpAnswer(200, b'{"status": "degraded", "checks": {"valkey": false}}'), LIMITED),
        (HttpAnswer(200, b"<html>"), DOWN),
        (HttpAnswer(503, b'{"status": "ok"}'), DOWN),
        (None, DOWN),
    ],
)
def test_what_the_gateway_says_of_itself_counts(answer: HttpAnswer | None, state: str):
    seen = api_read(answer)
    assert isinstance(seen, Seen) and seen.state == state
    assert "valkey" not in seen.note


@pytest.mark.parametrize(
    ("host", "asked"),
    [("0.0.0.0", "127.0.0.1"), ("10.1.2.3", "10.1.2.3"), ("::", "127.0.0.1"), ("fd00::1", "[fd00::1]")],
)
def test_it_asks_where_the_web_process_listens(settings, host: str, asked: str):
    settings.KINDLING_ENV = replace(settings.KINDLING_ENV, host=host, port=8123)
    assert own_url() == f"http://{asked}:8123"


def test_it_is_sent_twice_a_minute():
    entry = BEAT_SCHEDULE["look at every component"]
    assert (entry["task"], entry["schedule"]) == (sample.name, 30.0)
