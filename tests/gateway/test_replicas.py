"""Which replica answers, and what happens when one does not."""

import asyncio
import threading
from collections.abc import Iterator

import httpx
import pytest

from kindling_fake_engine import FakeEngine
from kindling_gateway import GatewayServer, chat, eventually, held_nano


@pytest.fixture
def first() -> Iterator[FakeEngine]:
    with FakeEngine() as engine:
        yield engine


@pytest.fixture
def second() -> Iterator[FakeEngine]:
    with FakeEngine(replica="fake-1") as engine:
        yield engine


def ask(http: httpx.Client, model: str, **fields) -> httpx.Response:
    return http.post("/v1/chat/completions", json=chat(model, **fields))


def test_idle_replicas_take_turns(http: httpx.Client, scene, second: FakeEngine):
    model = scene.new_model(scene.engine.url, second.url)
    for _ in range(10):
        assert ask(http, model).status_code == 200
    assert (len(scene.engine.received), len(second.received)) == (5, 5)


async def test_the_replica_with_less_to_do_gets_the_next(
    server: GatewayServer, scene, first: FakeEngine, second: FakeEngine
):
    model = scene.new_model(first.url, second.url)
    first.behaviour.first_delay_s = 30
    async with server.async_client(scene.key) as client:

        def ask_soon() -> asyncio.Task[httpx.Response]:
            return asyncio.create_task(client.post("/v1/chat/completions", json=chat(model)))

        pair = {ask_soon(), ask_soon()}
        done, stuck = await asyncio.wait(pair, return_when=asyncio.FIRST_COMPLETED, timeout=25)
        assert len(done) == 1
        while not first.active:
            await asyncio.sleep(0.01)
        for _ in range(4):
            assert (await ask_soon()).status_code == 200
        assert len(second.received) == 5
        for task in stuck:
            task.cancel()
        await asyncio.gather(*stuck, return_exceptions=True)


@pytest.mark.parametrize("stream", [False, True])
def test_a_connection_cut_before_the_first_byte_is_tried_again(
    http: httpx.Client, scene, first: FakeEngine, second: FakeEngine, stream: bool
):
    model = scene.new_model(first.url, second.url)
    first.behaviour.cut_before_first = 1
    replies = [ask(http, model, stream=stream) for _ in range(2)]
    assert [reply.status_code for reply in replies] == [200, 200]
    ids = {reply.headers["x-request-id"] for reply in replies}
    assert ids == {record["request_id"] for record in first.records + second.records}
    assert len({got.id for got in first.received + second.received}) == 3
    eventually(lambda: set(held_nano(scene.valkey, scene.customer)) == ids)


def test_a_second_cut_is_an_error(http: httpx.Client, scene, first: FakeEngine):
    model = scene.new_model(first.url)
    first.behaviour.cut_before_first = 9
    reply = ask(http, model)
    assert (reply.status_code, reply.json()["error"]["code"]) == (502, "upstream_failed")
    assert len(first.received) == 2
    eventually(lambda: held_nano(scene.valkey, scene.customer) == {})


def test_a_cut_in_the_middle_is_not_tried_again(http: httpx.Client, scene, first: FakeEngine):
    model = scene.new_model(first.url)
    first.behaviour.cut_after = 2
    assert "upstream_failed" in ask(http, model, stream=True).text
    assert len(first.received) == 1


def test_an_engine_whose_core_is_gone_hands_over(
    http: httpx.Client, scene, first: FakeEngine, second: FakeEngine
):
    model = scene.new_model(first.url, second.url)
    first.behaviour.fail_status, first.behaviour.fail_code = 503, "engine_unavailable"
    assert [ask(http, model).status_code for _ in range(3)] == [200, 200, 200]
    assert len(second.received) == 3


def test_a_request_waits_for_a_restarting_engine(http: httpx.Client, scene):
    with FakeEngine() as engine:
        model = scene.new_model(engine.url)
        assert ask(http, model).status_code == 200
        engine.stop()
        threading.Timer(1.0, engine.start).start()
        assert ask(http, model).status_code == 200


def test_a_request_waits_for_a_replica_to_become_ready(http: httpx.Client, scene):
    model_id = scene.world.base(scene.operator, "late")

    def arrive() -> None:
        scene.world.replica(scene.operator, model_id, scene.engine.url)

    timer = threading.Timer(0.8, arrive)
    timer.start()
    assert ask(http, "kindling/late").status_code == 200
    timer.join()


def test_no_replica_in_time_is_503(http: httpx.Client, scene):
    reply = ask(http, scene.new_model("http://127.0.0.1:9"))
    assert (reply.status_code, reply.json()["error"]["code"]) == (503, "no_replica")
    assert reply.headers["retry-after"] == "2"
    eventually(lambda: held_nano(scene.valkey, scene.customer) == {})


def test_a_deployment_can_be_pinned(http: httpx.Client, scene, second: FakeEngine):
    model_id = scene.world.base(scene.operator, f"pin-{scene.customer.slug}")
    model = f"kindling/pin-{scene.customer.slug}"
    scene.world.replica(scene.operator, model_id, scene.engine.url, deployment="blue")
    scene.world.replica(scene.operator, model_id, second.url, deployment="green")
    for pin in ("green", "kindling/green", "dep_green", "accounts/kindling/deployments/green"):
        assert ask(http, f"{model}#{pin}").status_code == 200
    assert len(second.received) == 4
    assert scene.engine.received == []


def test_a_pin_to_no_deployment_is_not_found_and_one_that_has_no_replica_yet_is_waited_for(
    http: httpx.Client, scene
):
    model_id = scene.world.base(scene.operator, f"typo-{scene.customer.slug}")
    model = f"kindling/typo-{scene.customer.slug}"
    scene.world.replica(scene.operator, model_id, scene.engine.url, deployment="blue")
    scene.world.deployment(scene.operator, model_id, "starting")
    scene.world.deployment(scene.world.org("stranger"), model_id, "theirs")
    for pin in ("bleu", f"{scene.customer.slug}/blue", "theirs", "dep_theirs"):
        error = ask(http, f"{model}#{pin}").json()["error"]
        assert (error["code"], error["param"]) == ("model_not_found", "model")
        assert f"#{pin}" in error["message"]
    assert ask(http, f"{model}#starting").status_code == 503
    assert ask(http, f"{model}#blue").status_code == 200


def test_a_dedicated_deployment_serves_its_owner_alone(
    server: GatewayServer, http: httpx.Client, scene, second: FakeEngine
):
    model_id = scene.world.base(scene.operator, f"ded-{scene.customer.slug}")
    model = f"kindling/ded-{scene.customer.slug}"
    scene.world.replica(scene.operator, model_id, scene.engine.url)
    scene.world.replica(scene.customer, model_id, second.url, deployment="own")
    other = scene.world.key(scene.world.org("stranger"))
    with server.client(other) as stranger:
        for _ in range(3):
            assert ask(http, model).status_code == 200
            assert ask(stranger, model).status_code == 200
    assert (len(second.received), len(scene.engine.received)) == (3, 3)
