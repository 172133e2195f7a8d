"""What may be done how often is counted over all processes, and by each for itself while Valkey is away."""

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest
import redis
from allauth.core.internal import ratelimit
from django.conf import settings
from django.core.cache import cache
from django.test import RequestFactory

from kindling_platform.common.shared_cache import SharedCache
from kindling_platform.embedded.ports import hold_port

TRY = """
import django
django.setup()
from allauth.core.internal import ratelimit
from django.test import RequestFactory
request = RequestFactory().post("/", REMOTE_ADDR="192.0.2.7")
print(sum(bool(ratelimit.consume(request, app="account", action="signup", config={"signup": "10/m/ip"}))
          for _ in range(6)))
"""


@pytest.fixture(autouse=True)
def empty() -> Iterator[None]:
    cache.clear()
    yield
    cache.clear()
    SharedCache._paused_until = 0.0


@pytest.fixture
def away() -> Iterator[SharedCache]:
    """A cache whose server is not there: the port is taken, and nobody listens."""
    hold = hold_port()
    yield SharedCache(f"redis://127.0.0.1:{hold.port}", {})
    hold.release()


def tried(times: int, ip: str = "192.0.2.7") -> int:
    """How many of so many sign-ups are let through."""
    request = RequestFactory().post("/", REMOTE_ADDR=ip)
    config = {"signup": "10/m/ip"}
    return sum(
        bool(ratelimit.consume(request, app="account", action="signup", config=config)) for _ in range(times)
    )


def test_processes_count_together():
    env = os.environ | {"DJANGO_SETTINGS_MODULE": "kindling_platform.config.settings"}
    others = subprocess.run([sys.executable, "-c", TRY], env=env, capture_output=True, text=True, timeout=60)
    assert (others.stdout.strip(), others.stderr) == ("6", "")
    assert tried(6) == 4
    assert tried(3, ip="192.0.2.8") == 3


def test_what_is_kept_is_no_code():
    cache.set("history", [1.5, 2.5])
    client = redis.Redis.from_url(settings.KINDLING_ENV.redis_url)
    assert client.get("kindling-web:1:history") == b"[1.5, 2.5]"
    assert cache.get("history") == [1.5, 2.5]


def test_forgetting_it_leaves_the_rest_of_valkey():
    client = redis.Redis.from_url(settings.KINDLING_ENV.redis_url)
    client.set("of-the-gateway", 1)
    cache.set("mine", True)
    cache.clear()
    assert cache.get("mine") is None
    assert client.get("of-the-gateway") == b"1"
    client.delete("of-the-gateway")


def test_without_valkey_each_process_counts_for_itself(away: SharedCache):
    assert away.add("lock", True)
    assert not away.add("lock", True)
    away.set("history", [1.0])
    assert away.get("history") == [1.0]
    away.delete("lock")
    assert away.add("lock", True)


def test_a_server_that_was_away_is_asked_again_after_a_pause(away: SharedCache):
    away.set("history", [1.0])
    assert cache.get("history") == [1.0]  # by this process alone, while nobody waits for the server
    SharedCache._paused_until = 0.0
    assert cache.get("history") is None
