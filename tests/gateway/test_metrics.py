"""What Prometheus reads from a gateway, and who may."""

import os
import re
from time import monotonic

import httpx
import pytest
import redis

from kindling_fake_engine import FakeEngine
from kindling_gateway import GatewayServer, chat, eventually, start_gateway
from kindling_platform.config.env import EnvError, load_env
from kindling_platform.gateway.metrics import GatewayMetrics
from kindling_platform.usage.comparisons import COMPARED_AT, DRIFT_KEY, WITNESSES_KEY

OWN_COUNT = "kindling_gateway_own_seconds_count"


def values(text: str) -> dict[str, float]:
    rows = (line.rsplit(" ", 1) for line in text.splitlines() if line and not line.startswith("#"))
    return {name: float(value) for name, value in rows}


def read(server: GatewayServer) -> dict[str, float]:
    with server.client() as client:
        reply = client.get("/metrics")
    assert reply.status_code == 200
    assert reply.headers["content-type"].startswith("text/plain")
    return values(reply.text)


def grown(before: dict[str, float], after: dict[str, float], name: str) -> float:
    return after.get(name, 0) - before.get(name, 0)


def test_requests_tokens_and_times_are_counted(server: GatewayServer, http: httpx.Client):
    before = read(server)
    for stream in (False, True):
        assert http.post("/v1/chat/completions", json=chat(stream=stream)).status_code == 200
    assert http.post("/v1/chat/completions", json=chat("kindling/none")).status_code == 404
    after = eventually(lambda: seen if grown(before, seen := read(server), OWN_COUNT) == 2 else None)
    good = 'kindling_gateway_requests_total{code="",route="chat",status="200"}'
    bad = 'kindling_gateway_requests_total{code="model_not_found",route="chat",status="404"}'
    assert grown(before, after, good) == 2
    assert grown(before, after, bad) == 1
    assert grown(before, after, 'kindling_gateway_tokens_total{kind="completion"}') == 16
    assert grown(before, after, "kindling_gateway_upstream_seconds_count") == 2
    assert grown(before, after, OWN_COUNT) == 2
    assert after["kindling_gateway_requests_running"] == 1  # the one that asks
    assert after['kindling_gateway_up{part="database"}'] == after['kindling_gateway_up{part="valkey"}'] == 1


def test_the_engines_time_is_not_the_gateways(server: GatewayServer, http: httpx.Client, scene):
    scene.engine.behaviour.first_delay_s = 0.3
    before, began = read(server), monotonic()
    assert http.post("/v1/chat/completions", json=chat()).status_code == 200
    took = monotonic() - began
    after = eventually(lambda: seen if grown(before, seen := read(server), OWN_COUNT) else None)
    upstream = grown(before, after, "kindling_gateway_upstream_seconds_sum")
    own = grown(before, after, "kindling_gateway_own_seconds_sum")
    # Of the time that passed, what the engine took is not in it, however slow the machine is.
    assert upstream >= 0.3
    assert own <= took - 0.3


def test_nobody_elsewhere_may_read_them(server: GatewayServer):
    with server.client() as client:
        for header in ("x-forwarded-for", "forwarded", "x-real-ip"):
            reply = client.get("/metrics", headers={header: "203.0.113.9"})
            assert (reply.status_code, reply.json()["error"]["code"]) == (404, "unknown_url")


def test_a_scraper_elsewhere_reads_them_with_its_token(shared):
    token = "scrape-" + "s" * 16
    with start_gateway(shared.world, metrics_token=token) as running, running.client() as client:
        away = {"x-forwarded-for": "203.0.113.9"}
        for sent in ("", "Bearer", f"Bearer {token}x", f"Basic {token}", token):
            reply = client.get("/metrics", headers=away | {"authorization": sent})
            assert (reply.status_code, reply.json()["error"]["code"]) == (404, "unknown_url"), sent
        reply = client.get("/metrics", headers=away | {"authorization": f"Bearer {token}"})
        assert reply.status_code == 200
        assert "kindling_gateway_requests_running" in reply.text
        assert client.get("/metrics").status_code == 200  # this machine needs none


def test_a_short_token_is_refused_and_not_repeated():
    with pytest.raises(EnvError) as refused:
        load_env(os.environ | {"KINDLING_METRICS_TOKEN": "letmein"})
    assert "KINDLING_METRICS_TOKEN must have at least 16 characters" in str(refused.value)
    assert "letmein" not in str(refused.value)


def test_what_the_workers_found_in_the_books_is_told(server: GatewayServer, valkey: redis.Redis):
    valkey.delete(DRIFT_KEY, WITNESSES_KEY)
    assert not [name for name in read(server) if name.startswith("kindling_books_")]
    drift = {"wallets": 3, "behind": 1, "drifted": 1, "drift_nano": 2_500_000_000, "holds_drift_nano": 0}
    valkey.hset(DRIFT_KEY, mapping=drift | {COMPARED_AT: 1_800_000_000})
    valkey.hset(WITNESSES_KEY, mapping={"differing": 2, "only_engine": 0, "only_gateway": 0, "unbooked": 4})
    told = read(server)
    assert told["kindling_books_wallets"] == 3
    assert told["kindling_books_drift_dollars"] == 2.5
    assert told["kindling_books_holds_drift_dollars"] == 0
    assert told["kindling_books_compared_at_seconds"] == 1_800_000_000
    assert (told["kindling_books_witnesses_differing"], told["kindling_books_unbooked"]) == (2, 4)
    valkey.delete(DRIFT_KEY, WITNESSES_KEY)


def test_they_name_no_customer_key_or_prompt(server: GatewayServer, http: httpx.Client, scene):
    assert http.post("/v1/chat/completions", json=chat(prompt_cache_key="pssst")).status_code in {200, 400}
    with server.client() as client:
        text = client.get("/metrics").text
    for word in ("Hello", scene.key, scene.customer.id, scene.customer.slug, "pssst"):
        assert word not in text
    assert not re.search(r"(org|key)_[0-9a-f]{12}", text)


def test_a_replica_that_fails_is_in_the_counts(server: GatewayServer, http: httpx.Client, scene):
    with FakeEngine() as engine:
        engine.behaviour.cut_before_first = 9
        model = scene.new_model(engine.url)
        before = read(server)
        assert http.post("/v1/chat/completions", json=chat(model)).status_code == 502
    name = 'kindling_gateway_requests_total{code="upstream_failed",route="chat",status="502"}'
    assert grown(before, read(server), name) == 1


class FullSpool:
    """Three requests that Postgres has not taken yet, and no room for a fourth."""

    waiting, size_bytes, has_room = 3, 4096, False


def test_the_spools_depth_is_told():
    told = values(GatewayMetrics().render(FullSpool(), up={}, replicas_waited_for=2).decode())
    assert told["kindling_gateway_spool_waiting"] == 3
    assert told["kindling_gateway_spool_bytes"] == 4096
    assert told["kindling_gateway_spool_has_room"] == 0
    assert told["kindling_gateway_requests_waiting"] == 2
