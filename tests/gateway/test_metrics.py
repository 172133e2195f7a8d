"""What Prometheus reads from a gateway, and who may."""

import re

import httpx

from kindling_fake_engine import FakeEngine
from kindling_gateway import GatewayServer, chat
from kindling_platform.gateway.metrics import GatewayMetrics


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
    after = read(server)
    good = 'kindling_gateway_requests_total{code="",route="chat",status="200"}'
    bad = 'kindling_gateway_requests_total{code="model_not_found",route="chat",status="404"}'
    assert grown(before, after, good) == 2
    assert grown(before, after, bad) == 1
    assert grown(before, after, 'kindling_gateway_tokens_total{kind="completion"}') == 16
    assert grown(before, after, "kindling_gateway_upstream_seconds_count") == 2
    assert grown(before, after, "kindling_gateway_own_seconds_count") == 2
    assert after["kindling_gateway_requests_running"] == 1  # the one that asks
    assert after['kindling_gateway_up{part="database"}'] == after['kindling_gateway_up{part="valkey"}'] == 1


def test_the_engines_time_is_not_the_gateways(server: GatewayServer, http: httpx.Client, scene):
    scene.engine.behaviour.first_delay_s = 0.3
    before = read(server)
    assert http.post("/v1/chat/completions", json=chat()).status_code == 200
    after = read(server)
    upstream = grown(before, after, "kindling_gateway_upstream_seconds_sum")
    own = grown(before, after, "kindling_gateway_own_seconds_sum")
    assert upstream >= 0.3 > own


def test_nobody_elsewhere_may_read_them(server: GatewayServer):
    with server.client() as client:
        for header in ("x-forwarded-for", "forwarded", "x-real-ip"):
            reply = client.get("/metrics", headers={header: "203.0.113.9"})
            assert (reply.status_code, reply.json()["error"]["code"]) == (404, "unknown_url")


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
