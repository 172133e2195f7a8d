"""Valkey and Postgres go away and come back while customers call."""

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass

import httpx
import pytest

from kindling_fault_proxy import FaultProxy
from kindling_gateway import GatewayServer, chat, eventually, gateway_env, held_nano, start_gateway
from kindling_platform.keys import secret

OUTPUT = 400_000


@dataclass(slots=True)
class Frail:
    """A gateway whose Valkey and Postgres can be taken away."""

    server: GatewayServer
    valkey: FaultProxy
    postgres: FaultProxy
    http: httpx.Client


@pytest.fixture
def frail(scene) -> Iterator[Frail]:
    valkey, redis_url = FaultProxy.before(gateway_env().redis_url)
    postgres, database_url = FaultProxy.before(scene.world.url)
    gateway = start_gateway(scene.world, database_url=database_url, redis_url=redis_url)
    with gateway as server, server.client(scene.key) as http:
        yield Frail(server, valkey, postgres, http)
    valkey.stop()
    postgres.stop()


def ask(http: httpx.Client, **fields) -> tuple[int, float]:
    started = time.monotonic()
    reply = http.post("/v1/chat/completions", json=chat(**fields))
    return reply.status_code, time.monotonic() - started


def ask_past_the_caches(http: httpx.Client) -> float:
    """Call for longer than a cached key lives; the slowest call's seconds."""
    slowest, until = 0.0, time.monotonic() + 2.2
    while time.monotonic() < until:
        status, seconds = ask(http)
        assert status == 200
        slowest = max(slowest, seconds)
    return slowest


@pytest.mark.parametrize("fault", ["cut", "freeze"])
def test_without_valkey_calls_go_on_within_200_ms(frail: Frail, scene, fault: str):
    assert ask(frail.http)[0] == 200
    getattr(frail.valkey, fault)()
    for _ in range(10):
        status, seconds = ask(frail.http)
        assert status == 200
        assert seconds < 0.2
    assert frail.http.get("/healthz").json()["status"] == "degraded"
    frail.valkey.heal()
    eventually(lambda: frail.http.get("/healthz").json()["status"] == "ok")
    reply = frail.http.post("/v1/chat/completions", json=chat())
    eventually(lambda: reply.headers["x-request-id"] in held_nano(scene.valkey, scene.customer))


def test_without_valkey_an_empty_wallet_is_still_refused(frail: Frail, scene):
    frail.valkey.cut()
    poor = scene.world.key(scene.world.org("poor-degraded", usd=0))
    with frail.server.client(poor) as http:
        assert ask(http)[0] == 402


def test_without_valkey_one_process_still_counts_what_it_holds(frail: Frail, scene):
    frail.valkey.cut()
    small = scene.world.org("small-degraded", usd=0)
    request = frail.http.build_request("POST", "/v1/chat/completions", json=chat())
    each = (len(request.content) + 80) * 100_000 + 8 * OUTPUT
    scene.world.execute(
        "UPDATE gateway_balance SET balance_picousd = %s WHERE org_id = %s", each + OUTPUT // 2, small.id
    )
    scene.engine.behaviour.first_delay_s = 1
    with frail.server.client(scene.world.key(small)) as one, frail.server.client() as two:
        two.headers["authorization"] = one.headers["authorization"]
        first = one.build_request("POST", "/v1/chat/completions", json=chat(stream=True))
        thread = threading.Thread(target=lambda: one.send(first))
        thread.start()
        eventually(lambda: scene.engine.active)
        assert ask(two)[0] == 402
        thread.join()


def test_an_emptied_valkey_is_filled_again(frail: Frail, scene):
    assert ask(frail.http)[0] == 200
    scene.valkey.flushall()
    scene.valkey.script_flush()
    assert ask(frail.http)[0] == 200
    eventually(lambda: frail.http.get("/healthz").json()["status"] == "ok")
    reply = frail.http.post("/v1/chat/completions", json=chat())
    eventually(lambda: reply.headers["x-request-id"] in held_nano(scene.valkey, scene.customer))


@pytest.mark.parametrize("fault", ["cut", "freeze"])
def test_without_postgres_known_keys_go_on_and_strangers_are_asked_to_wait(frail: Frail, scene, fault: str):
    assert ask(frail.http)[0] == 200
    getattr(frail.postgres, fault)()
    assert ask_past_the_caches(frail.http) < 1
    with frail.server.client(secret.generate()) as stranger:
        reply = stranger.post("/v1/chat/completions", json=chat())
    assert (reply.status_code, reply.json()["error"]["code"]) == (503, "database_unavailable")
    assert reply.headers["retry-after"] == "2"
    frail.postgres.heal()
    fresh = scene.world.key(scene.world.org("fresh", usd=1))
    with frail.server.client(fresh) as http:
        eventually(lambda: ask(http)[0] == 200, seconds=20)


def test_a_restarted_postgres_is_found_again_at_once(frail: Frail, scene):
    assert ask(frail.http)[0] == 200
    frail.postgres.cut()
    frail.postgres.heal()
    fresh = scene.world.key(scene.world.org("reborn", usd=1))
    with frail.server.client(fresh) as http:
        assert ask(http)[0] == 200


def test_without_both_known_customers_go_on(frail: Frail, scene):
    assert ask(frail.http)[0] == 200
    frail.valkey.cut()
    assert ask(frail.http)[0] == 200
    frail.postgres.cut()
    assert ask_past_the_caches(frail.http) < 1
