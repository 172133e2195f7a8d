"""Valkey and Postgres go away and come back while customers call."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from statistics import median

import httpx
import pytest

from kindling_admission import amounts
from kindling_billing.admission_scripts import rations_key
from kindling_billing.holds import holds_key, wallet_key
from kindling_gateway import GatewayServer, chat, eventually, gateway_env, held_nano, limit_row, start_gateway
from kindling_platform.embedded.bench_reliability.proxy import FaultProxy
from kindling_platform.gateway import valkey as valkey_module
from kindling_platform.keys import secret

OUTPUT = 400_000


@dataclass(slots=True)
class Frail:
    """A gateway whose Valkey and Postgres can be taken away."""

    server: GatewayServer
    valkey: FaultProxy
    postgres: FaultProxy
    http: httpx.Client


@pytest.fixture(autouse=True)
def patience() -> None:
    """Servers have the time to answer here that they have anywhere."""


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
    """Call for longer than a cached key lives; the median of its seconds, as a busy machine has slow ones."""
    took_s, until = [], time.monotonic() + 2.2
    while time.monotonic() < until:
        status, seconds = ask(http)
        assert status == 200
        took_s.append(seconds)
        time.sleep(0.02)  # as fast as it can, a machine of its own comes to the key's rate limit
    return median(took_s)


@pytest.mark.parametrize("fault", ["cut", "freeze"])
def test_without_valkey_calls_go_on_within_200_ms(frail: Frail, scene, fault: str):
    assert ask(frail.http)[0] == 200
    getattr(frail.valkey, fault)()
    asked = [ask(frail.http) for _ in range(10)]
    assert {status for status, _ in asked} == {200}
    assert median(seconds for _, seconds in asked) < 0.2
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


def test_without_valkey_no_more_is_spent_than_was_set_aside(frail: Frail, scene):
    scene.engine.behaviour.park_s = 0.5
    small = scene.world.org("small-degraded", usd=0.004)
    with frail.server.client(scene.world.key(small)) as http:
        assert ask(http)[0] == 200
        rations = amounts(scene.valkey, rations_key(small.id))
        frail.valkey.cut()
        statuses = [ask(http)[0] for _ in range(60)]
        refused = http.post("/v1/chat/completions", json=chat())
    assert sum(rations.values()) == pytest.approx(200_000, rel=0.1)  # a twentieth, in nano-dollars
    assert set(statuses) == {200, 503}
    assert statuses.index(503) == statuses.count(200)
    spent = statuses.count(200) * (7 * 100_000 + 8 * OUTPUT)
    assert 0.8 * sum(rations.values()) < spent / 1000 <= sum(rations.values())
    assert (refused.json()["error"]["code"], refused.headers["retry-after"]) == ("limits_unavailable", "2")


def test_a_moment_without_valkey_is_waited_out_where_nothing_was_set_aside(frail: Frail, scene, monkeypatch):
    monkeypatch.setattr(valkey_module, "BLIP_S", 20.0)
    newcomer = scene.world.key(scene.world.org("newcomer", usd=1))
    assert ask(frail.http)[0] == 200
    with frail.server.client(newcomer) as http, ThreadPoolExecutor(1) as pool:
        frail.valkey.freeze()
        asked = pool.submit(ask, http)
        eventually(lambda: frail.http.get("/healthz").json()["status"] == "degraded")
        assert not asked.done()
        frail.valkey.heal()
        assert asked.result()[0] == 200


def test_an_outage_is_not_waited_out(frail: Frail, scene, monkeypatch):
    monkeypatch.setattr(valkey_module, "BLIP_S", 0.0)
    newcomer = scene.world.key(scene.world.org("newcomer-refused", usd=1))
    frail.valkey.cut()
    with frail.server.client(newcomer) as http:
        assert ask(http)[0] == 503


def test_what_was_set_aside_is_gone_with_a_refusal(frail: Frail, scene):
    small = scene.world.org("small-refused", usd=0.004)
    with frail.server.client(scene.world.key(small)) as http:
        assert ask(http)[0] == 200
        held = f"4000000:{int(time.time() + 300) * 1000}"
        scene.valkey.hset(holds_key(small.id), "elsewhere", held)
        scene.valkey.hdel(wallet_key(small.id), "h")
        assert ask(http)[0] == 402
        frail.valkey.cut()
        assert ask(http)[0] == 503


def test_what_ended_without_valkey_is_told_when_it_is_back(frail: Frail, scene):
    assert ask(frail.http)[0] == 200
    frail.valkey.cut()
    scene.engine.behaviour.first_delay_s = 0.3
    done = frail.http.post("/v1/chat/completions", json=chat()).headers["x-request-id"]
    reply = frail.http.send(
        frail.http.build_request("POST", "/v1/chat/completions", json=chat(stream=True)), stream=True
    )
    frail.valkey.heal()
    held = eventually(lambda: held if done in (held := held_nano(scene.valkey, scene.customer)) else None)
    assert held[done] == (7 * 100_000 + 8 * OUTPUT) // 1000
    reply.read()
    eventually(lambda: len(held_nano(scene.valkey, scene.customer)) == 3)


def test_without_valkey_a_process_keeps_to_its_limits(frail: Frail, scene):
    key = scene.world.key(scene.customer, limits=[limit_row("key", requests_per_minute=5)])
    with frail.server.client(key) as http:
        assert ask(http)[0] == 200
        frail.valkey.cut()
        assert [ask(http)[0] for _ in range(6)] == [200] * 4 + [429] * 2


def test_a_valkey_that_answers_late_is_left_alone_until_it_is_quick(frail: Frail, scene):
    assert ask(frail.http)[0] == 200
    frail.valkey.delay_s = 0.2
    waits = [ask(frail.http) for _ in range(15)]
    assert {status for status, _ in waits} == {200}
    assert median(seconds for _, seconds in waits) < 0.2
    assert frail.http.get("/healthz").json()["status"] == "degraded"
    frail.valkey.delay_s = 0.0
    eventually(lambda: frail.http.get("/healthz").json()["status"] == "ok")


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
        eventually(lambda: ask(http)[0] == 200, seconds=60)


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
