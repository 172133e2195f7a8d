"""An `Idempotency-Key`: the same request again gets the same answer and is charged once."""

import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import httpx
import pytest

from kindling_fake_engine import Behaviour
from kindling_gateway import GatewayServer, World, chat, eventually, send, start_gateway
from kindling_gateways import GatewayProcess
from kindling_platform.embedded.bench_reliability.proxy import FaultProxy
from kindling_spools import billed, shipped, shipped_one

KEY = {"Idempotency-Key": "order-17"}


@pytest.fixture
def http(server: GatewayServer, scene) -> Iterator[httpx.Client]:
    with server.client(scene.key) as client:
        yield client


def ask(http: httpx.Client, headers: dict[str, str] = KEY, **fields) -> httpx.Response:
    return http.post("/v1/chat/completions", json=chat(**fields), headers=headers)


def refused(reply: httpx.Response) -> tuple[int, str]:
    return reply.status_code, reply.json()["error"]["code"]


def ask_in_vain(http: httpx.Client) -> None:
    with pytest.raises(httpx.HTTPError):
        ask(http)


def let_the_lease_end(world: World) -> None:
    world.execute(
        "UPDATE usage_idempotentreply SET leased_until = now() - interval '1 second' WHERE status = 0"
    )


def tokens_billed(scene) -> int:
    own = {record["request_id"] for record in scene.engine.records}
    rows = {
        name: row
        for name, row in shipped(scene.world).items()
        if row.record.tenant == scene.customer.id or name in own
    }
    return sum(billed(rows, scene.engine.records).values())


def test_the_second_time_the_answer_is_the_first_ones_and_no_engine_is_asked(http: httpx.Client, scene):
    first, second = ask(http), ask(http)
    assert (first.status_code, second.status_code) == (200, 200)
    assert second.content == first.content
    assert second.headers["x-request-id"] == first.headers["x-request-id"]
    assert second.headers["content-type"] == first.headers["content-type"]
    assert second.headers["idempotent-replayed"] == "true"
    assert "idempotent-replayed" not in first.headers
    assert len(scene.engine.received) == 1


def test_an_answer_in_another_shape_comes_again_in_it(http: httpx.Client, scene):
    body = {"model": "kindling/words", "max_tokens": 8, "messages": [{"role": "user", "content": "Hello!"}]}
    first = http.post("/v1/messages", json=body, headers=KEY)
    second = http.post("/v1/messages", json=body, headers=KEY)
    assert first.json()["type"] == "message"
    assert second.content == first.content
    assert second.headers["request-id"] == first.headers["request-id"]
    assert len(scene.engine.received) == 1


def test_while_it_runs_the_second_is_told_to_wait(http: httpx.Client, scene):
    scene.engine.behaviour.held_at = 0
    answers: list[httpx.Response] = []
    first = threading.Thread(target=lambda: answers.append(ask(http)))
    first.start()
    eventually(lambda: scene.engine.active)
    waiting = ask(http)
    assert refused(waiting) == (409, "idempotency_running")
    assert waiting.headers["retry-after"] == "1"
    scene.engine.behaviour.held_at = None
    first.join(60)
    assert answers[0].status_code == 200
    assert ask(http).content == answers[0].content
    assert len(scene.engine.received) == 1


def test_a_key_is_for_one_request_of_one_api_key(http: httpx.Client, server: GatewayServer, scene):
    first = ask(http)
    assert refused(ask(http, max_tokens=9)) == (400, "idempotency_key_reused")
    with server.client(scene.world.key(scene.customer)) as other:
        assert ask(other).headers["x-request-id"] != first.headers["x-request-id"]
    assert len(scene.engine.received) == 2


@pytest.mark.parametrize("key", ["", "x" * 256, "tab\there", "é"])
def test_what_is_no_key_is_refused_by_name(http: httpx.Client, scene, key: str):
    reply = ask(http, {"Idempotency-Key": key.encode("latin-1")})
    assert refused(reply) == (400, "invalid_value")
    assert reply.json()["error"]["param"] == "Idempotency-Key"
    assert scene.engine.received == []


def test_a_failure_is_not_kept(http: httpx.Client, scene):
    scene.engine.behaviour = Behaviour(fail_status=500)
    assert ask(http).status_code == 502
    scene.engine.behaviour = Behaviour()
    assert ask(http).status_code == 200


def test_a_stream_says_that_it_ignores_the_key(http: httpx.Client, scene):
    first, second = ask(http, stream=True), ask(http, stream=True)
    assert first.headers["x-kindling-ignored"] == "Idempotency-Key"
    assert second.headers["x-request-id"] != first.headers["x-request-id"]


def test_a_client_that_leaves_finds_its_answer_when_it_asks_again(
    server: GatewayServer, http: httpx.Client, scene
):
    scene.engine.behaviour.held_at = 0
    hasty = send(server.url, scene.key, chat(), **KEY)
    eventually(lambda: scene.engine.active)
    hasty.close()
    scene.engine.behaviour.held_at = None
    found = eventually(lambda: reply if (reply := ask(http)).status_code == 200 else None)
    assert found.headers["idempotent-replayed"] == "true"
    assert len(scene.engine.received) == 1
    assert eventually(lambda: shipped_one(scene.world, found.headers["x-request-id"])).verdict == "closed"


def test_answers_are_sealed_at_rest_and_only_for_a_day(http: httpx.Client, scene):
    first = ask(http)
    request_id = first.headers["x-request-id"]
    query = "SELECT digest, answer, expires_at - now() FROM usage_idempotentreply WHERE request_id = %s"
    digest, answer, left = scene.world.rows(query, request_id)[0]
    for secret in (b"w1 ", b"order-17", b"chatcmpl", b"Hello!"):
        assert secret not in digest + answer
    assert timedelta(hours=23, minutes=59) < left <= timedelta(hours=24)
    scene.world.execute(
        "UPDATE usage_idempotentreply SET expires_at = now() WHERE request_id = %s", request_id
    )
    assert ask(http).headers["x-request-id"] != request_id


def test_without_the_database_no_promise_is_made(scene):
    proxy, database_url = FaultProxy.before(scene.world.url)
    with start_gateway(scene.world, database_url=database_url) as running, running.client(scene.key) as http:
        assert ask(http, {}).status_code == 200
        proxy.cut()
        assert refused(ask(http)) == (503, "database_unavailable")
        assert ask(http, {}).status_code == 200
        proxy.heal()
    proxy.stop()
    assert len(scene.engine.received) == 2


def test_an_attempt_whose_gateway_died_is_free_when_its_successor_is_charged(
    http: httpx.Client, scene, tmp_path: Path
):
    scene.engine.behaviour.first_delay_s = 30
    with GatewayProcess(scene.world, tmp_path / "log") as gateway:
        dying = httpx.Client(
            base_url=gateway.url, headers={"Authorization": f"Bearer {scene.key}"}, timeout=60
        )
        thread = threading.Thread(target=ask_in_vain, args=[dying])
        thread.start()
        eventually(lambda: scene.engine.active)
        gateway.kill()
        thread.join(60)
        dying.close()
    scene.engine.behaviour = Behaviour()
    assert refused(ask(http)) == (409, "idempotency_running")
    let_the_lease_end(scene.world)
    reply = ask(http)
    assert reply.status_code == 200
    first = scene.engine.received[0].id
    # Whoever replays the dead one's spool may be first, and does not know.
    assert eventually(lambda: (row := shipped_one(scene.world, first)) and row.verdict == "void")
    with start_gateway(scene.world):  # whoever replays the dead one's spool changes nothing about that
        eventually(lambda: not [one for one in (scene.world.home / "spool").iterdir()
                                if f"-{gateway.process.pid}-" in one.name])  # fmt: skip
    assert shipped_one(scene.world, first).verdict == "void"
    eventually(lambda: shipped_one(scene.world, reply.headers["x-request-id"]))
    assert tokens_billed(scene) == 8


def test_a_retry_inside_the_gateway_frees_the_first_try_for_good(http: httpx.Client, scene):
    scene.engine.behaviour.cut_before_first, scene.engine.behaviour.record_before_cut = 1, True
    reply = ask(http)
    assert reply.status_code == 200
    eventually(lambda: shipped_one(scene.world, reply.headers["x-request-id"]))
    assert tokens_billed(scene) == 8
    assert ask(http).content == reply.content
