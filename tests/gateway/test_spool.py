"""What a request used is on its way to the books whatever becomes of the gateway, the engine and the database."""

import json
import signal
import time
from pathlib import Path

import httpx
import pytest

from kindling_fake_engine import Behaviour, FakeEngine
from kindling_gateway import GatewayServer, chat, eventually, held_nano, start_gateway
from kindling_gateways import GatewayProcess
from kindling_platform.embedded.bench_reliability.proxy import FaultProxy
from kindling_spools import Shipped, shipped, shipped_one


def row_of(scene, reply: httpx.Response) -> Shipped:
    return eventually(lambda: shipped_one(scene.world, reply.headers["x-request-id"]))


@pytest.mark.parametrize("stream", [False, True])
def test_final_counts_are_shipped_with_who_asked_for_what_at_which_price(
    http: httpx.Client, scene, stream: bool
):
    scene.engine.behaviour.cached_tokens, scene.engine.behaviour.reasoning_tokens = 3, 5
    reply = http.post("/v1/chat/completions", json=chat(stream=stream))
    row = row_of(scene, reply)
    record = row.record
    assert (row.verdict, record.finish) == ("closed", "stop")
    assert (record.prompt_tokens, record.cached_tokens, record.completion_tokens) == (7, 3, 8)
    assert record.reasoning_tokens == 5
    logged = scene.engine.records[0]
    assert (record.context, record.tenant) == (logged["context"], logged["tenant"])
    assert json.loads(record.context)["org"] == scene.customer.id
    assert record.started_ms <= (record.first_token_ms or 0) <= record.finished_ms


@pytest.mark.parametrize("stream", [False, True])
def test_a_first_token_is_timed_when_the_engine_made_it(http: httpx.Client, scene, stream: bool):
    """Also in a whole answer, which comes long after it."""
    scene.engine.behaviour.tokens, scene.engine.behaviour.delay_s = 5, 0.05
    reply = http.post("/v1/chat/completions", json=chat(stream=stream))
    record, logged = row_of(scene, reply).record, scene.engine.records[0]
    way_ms = record.finished_ms - logged["finished_ms"]
    # It is known as late as the end is, and not by the time that the other four took.
    assert logged["first_token_ms"] <= record.first_token_ms <= record.finished_ms - 100
    assert stream or record.first_token_ms - logged["first_token_ms"] <= way_ms + 1
    assert "x-kindling-written-ms" not in reply.headers


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_that_was_cut_short_says_so(http: httpx.Client, scene, stream: bool):
    scene.engine.behaviour.tokens = 50
    row = row_of(scene, http.post("/v1/chat/completions", json=chat(stream=stream)))
    assert (row.record.finish, row.tokens) == ("length", (7, 8))


def test_embeddings_are_shipped_like_answers(http: httpx.Client, scene):
    body = {"model": "kindling/words", "input": ["a", "b"]}
    row = row_of(scene, http.post("/v1/embeddings", json=body))
    assert (row.verdict, row.tokens) == ("closed", (7, 0))


def test_a_client_that_leaves_is_left_to_the_engines_log(server: GatewayServer, scene):
    scene.engine.behaviour.tokens, scene.engine.behaviour.delay_s = 3000, 0.01
    with server.client(scene.key) as client:
        request = client.build_request(
            "POST", "/v1/chat/completions", json=chat(stream=True, max_tokens=3000)
        )
        reply = client.send(request, stream=True)
        next(reply.iter_raw())
        reply.close()
    row = row_of(scene, reply)
    assert row.verdict == "cut"
    eventually(lambda: scene.engine.records)
    assert scene.engine.records[0]["request_id"] == reply.headers["x-request-id"]


@pytest.mark.parametrize("fault", [{"cut_after": 3}, {"error_after": 3}])
def test_a_failure_in_the_middle_is_free_even_if_the_engine_says_it_was_cancelled(
    http: httpx.Client, scene, fault: dict
):
    for name, value in fault.items():
        setattr(scene.engine.behaviour, name, value)
    reply = http.post("/v1/chat/completions", json=chat(stream=True))
    assert '"code":' in reply.text
    row = row_of(scene, reply)
    assert (row.verdict, row.record.finish, row.tokens[1]) == ("void", "error", 0)
    eventually(lambda: held_nano(scene.valkey, scene.customer) == {})


def test_an_engine_that_dies_between_its_record_and_its_first_byte_is_not_billed_beside_the_second_try(
    http: httpx.Client, scene
):
    scene.engine.behaviour.cut_before_first, scene.engine.behaviour.record_before_cut = 1, True
    reply = http.post("/v1/chat/completions", json=chat())
    assert reply.status_code == 200
    first, second = (record["request_id"] for record in scene.engine.records)
    assert reply.headers["x-request-id"] == second != first
    assert row_of(scene, reply).verdict == "closed"
    assert eventually(lambda: shipped_one(scene.world, first)).verdict == "void"


def test_a_request_that_no_engine_took_leaves_no_row(server: GatewayServer, scene):
    gone = FakeEngine()
    gone.start()
    gone.stop()
    model = scene.new_model(gone.url)
    with server.client(scene.key) as client:
        refused = client.post("/v1/chat/completions", json=chat(model))
        assert refused.status_code == 503
        bad = client.post("/v1/chat/completions", json=chat(max_tokens=8))
        assert bad.status_code == 200
    assert row_of(scene, bad).verdict == "closed"
    assert shipped_one(scene.world, refused.headers["x-request-id"]) is None


def test_while_postgres_is_away_the_spool_grows_and_then_all_of_it_is_shipped(scene):
    proxy, database_url = FaultProxy.before(scene.world.url)
    with (
        start_gateway(scene.world, database_url=database_url) as running,
        running.client(scene.key) as http,
    ):
        first = http.post("/v1/chat/completions", json=chat())
        assert row_of(scene, first).verdict == "closed"
        proxy.cut()
        replies = [http.post("/v1/chat/completions", json=chat()) for _ in range(20)]
        assert {reply.status_code for reply in replies} == {200}
        assert all(shipped_one(scene.world, reply.headers["x-request-id"]) is None for reply in replies)
        proxy.heal()
        for reply in replies:
            assert eventually(
                lambda reply=reply: shipped_one(scene.world, reply.headers["x-request-id"]), seconds=60
            )
    proxy.stop()


def test_a_spool_without_room_serves_nobody_and_says_so(scene):
    with start_gateway(scene.world, spool_max_bytes=0) as running, running.client(scene.key) as http:
        reply = http.post("/v1/chat/completions", json=chat())
        assert (reply.status_code, reply.json()["error"]["code"]) == (503, "spool_full")
        assert reply.headers["retry-after"] == "5"
        assert http.get("/healthz").json()["status"] == "degraded"
    assert scene.engine.received == []
    eventually(lambda: held_nano(scene.valkey, scene.customer) == {})


def test_a_gateway_that_stops_ships_everything_and_leaves_nothing(scene, tmp_path: Path):
    with GatewayProcess(scene.world, tmp_path / "log") as gateway:
        headers = {"Authorization": f"Bearer {scene.key}"}
        with httpx.Client(base_url=gateway.url, headers=headers, timeout=60) as http:
            ids = [http.post("/v1/chat/completions", json=chat()).headers["x-request-id"] for _ in range(10)]
            # Stopped while the last ones wait for their 50 ms.
            gateway.process.send_signal(signal.SIGTERM)
        assert gateway.process.wait(60) in (0, -signal.SIGTERM)
        rows = shipped(scene.world)
    assert set(ids) <= set(rows)
    assert all(rows[request_id].verdict == "closed" for request_id in ids)
    assert str(gateway.process.pid) not in spool_owners(scene)


def spool_owners(scene) -> set[str]:
    return {folder.name.split("-")[1] for folder in (scene.world.home / "spool").iterdir()}


def test_a_streams_open_at_the_stop_is_free(scene, tmp_path: Path):
    scene.engine.behaviour.tokens, scene.engine.behaviour.delay_s = 4000, 0.02
    with GatewayProcess(scene.world, tmp_path / "log") as gateway:
        headers = {"Authorization": f"Bearer {scene.key}"}
        body = chat(stream=True, max_tokens=4000)
        with httpx.stream(
            "POST", f"{gateway.url}/v1/chat/completions", json=body, headers=headers, timeout=60
        ) as reply:
            lines = reply.iter_lines()
            next(lines)
            gateway.process.send_signal(signal.SIGTERM)
            asked_at = time.monotonic()
            assert '"server_shutdown"' in [line for line in lines if line][-1]
        gateway.process.wait(60)
        assert time.monotonic() - asked_at < 30
    assert row_of(scene, reply).verdict == "void"


def test_a_killed_gateways_requests_are_shipped_by_another(scene, tmp_path: Path):
    scene.engine.behaviour.tokens, scene.engine.behaviour.delay_s = 4000, 0.01
    proxy, database_url = FaultProxy.before(scene.world.url)
    headers = {"Authorization": f"Bearer {scene.key}"}
    with (
        GatewayProcess(scene.world, tmp_path / "log", database_url=database_url) as gateway,
        httpx.Client(base_url=gateway.url, headers=headers, timeout=60) as http,
    ):
        body = chat(stream=True, max_tokens=4000)
        running = http.send(http.build_request("POST", "/v1/chat/completions", json=body), stream=True)
        parts = running.iter_raw()
        next(parts)
        proxy.cut()  # so that it dies with ends that it has not shipped
        scene.engine.behaviour = Behaviour()
        done = [http.post("/v1/chat/completions", json=chat()) for _ in range(5)]
        gateway.kill()
        with pytest.raises(httpx.HTTPError):
            list(parts)
    proxy.stop()
    assert str(gateway.process.pid) in spool_owners(scene)
    with start_gateway(scene.world):
        for reply in done:
            assert row_of(scene, reply).verdict == "closed"
        assert row_of(scene, running).verdict == "open"
        eventually(lambda: str(gateway.process.pid) not in spool_owners(scene))
    eventually(lambda: len(scene.engine.records) == 6)
    last = next(one for one in scene.engine.records if one["request_id"] == running.headers["x-request-id"])
    assert last["finish"] == "cancelled"
