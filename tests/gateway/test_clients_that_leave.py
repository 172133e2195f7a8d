"""A client that hangs up: the engine stops at once, and the hold waits for what the engine has logged."""

import httpx
import pytest

from kindling_gateway import GatewayServer, chat, eventually, held_nano, send

LONG_TOKENS = 6000  # a minute's work


@pytest.mark.parametrize("stream", [False, True])
def test_the_engine_is_told_at_once(server: GatewayServer, scene, stream: bool):
    scene.engine.behaviour.tokens, scene.engine.behaviour.delay_s = LONG_TOKENS, 0.01
    client = send(server.url, scene.key, chat(stream=stream, max_tokens=LONG_TOKENS))
    if stream:
        assert client.getresponse().read(1)
    eventually(lambda: any(running.made for running in list(scene.engine.active.values())))
    client.close()
    eventually(lambda: scene.engine.records)
    record = scene.engine.records[0]
    assert record["finish"] == "cancelled"
    assert 0 < record["completion_tokens"] < LONG_TOKENS / 4
    held = held_nano(scene.valkey, scene.customer)
    assert set(held) == {record["request_id"]}
    assert held[record["request_id"]] >= record["completion_tokens"] * 400


def test_a_client_that_leaves_before_the_engine_was_asked_holds_nothing(server: GatewayServer, scene):
    model = scene.new_model()  # no replica: the request waits for one
    with server.client(scene.key) as client, pytest.raises(httpx.ReadTimeout):
        client.post("/v1/chat/completions", json=chat(model), timeout=0.3)
    assert scene.engine.received == []
    eventually(lambda: held_nano(scene.valkey, scene.customer) == {})


def test_many_clients_that_leave_leave_nothing_running(server: GatewayServer, scene):
    scene.engine.behaviour.tokens, scene.engine.behaviour.delay_s = LONG_TOKENS, 0.01
    clients = [server.client(scene.key) for _ in range(20)]
    replies = []
    for client in clients:
        body = chat(stream=True, max_tokens=LONG_TOKENS)
        replies.append(
            client.send(client.build_request("POST", "/v1/chat/completions", json=body), stream=True)
        )
    assert len(scene.engine.active) == 20
    for reply, client in zip(replies, clients, strict=True):
        reply.close()
        client.close()
    eventually(lambda: len(scene.engine.records) == 20)
    eventually(lambda: scene.engine.active == {})
    assert {record["finish"] for record in scene.engine.records} == {"cancelled"}
