"""A client that hangs up: the engine stops at once, and the hold waits for what the engine has logged."""

import time

import httpx
import pytest

from kindling_gateway import GatewayServer, chat, eventually, held_nano


@pytest.mark.parametrize("stream", [False, True])
def test_the_engine_is_told_at_once(server: GatewayServer, scene, stream: bool):
    scene.engine.behaviour.tokens, scene.engine.behaviour.delay_s = 3000, 0.01
    client = server.client(scene.key)
    request = client.build_request("POST", "/v1/chat/completions", json=chat(stream=stream, max_tokens=3000))
    if stream:
        reply = client.send(request, stream=True)
        next(reply.iter_raw())
        reply.close()
    else:
        leave_after(client, request, 0.2)
    left_at = time.monotonic()
    client.close()
    eventually(lambda: scene.engine.records)
    assert time.monotonic() - left_at < 0.5
    record = scene.engine.records[0]
    assert record["finish"] == "cancelled"
    assert 0 < record["completion_tokens"] < 100
    held = held_nano(scene.valkey, scene.customer)
    assert set(held) == {record["request_id"]}
    assert held[record["request_id"]] >= record["completion_tokens"] * 400


def leave_after(client, request, seconds: float) -> None:
    request.extensions["timeout"] = {"read": seconds, "connect": 5, "write": 5, "pool": 5}
    with pytest.raises(httpx.ReadTimeout):
        client.send(request)


def test_a_client_that_leaves_before_the_engine_was_asked_holds_nothing(server: GatewayServer, scene):
    model = scene.new_model()  # no replica: the request waits for one
    client = server.client(scene.key)
    leave_after(client, client.build_request("POST", "/v1/chat/completions", json=chat(model)), 0.3)
    client.close()
    assert scene.engine.received == []
    eventually(lambda: held_nano(scene.valkey, scene.customer) == {})


def test_many_clients_that_leave_leave_nothing_running(server: GatewayServer, scene):
    scene.engine.behaviour.tokens, scene.engine.behaviour.delay_s = 3000, 0.01
    clients = [server.client(scene.key) for _ in range(20)]
    replies = []
    for client in clients:
        body = chat(stream=True, max_tokens=3000)
        replies.append(
            client.send(client.build_request("POST", "/v1/chat/completions", json=body), stream=True)
        )
    assert len(scene.engine.active) == 20
    for reply, client in zip(replies, clients, strict=True):
        reply.close()
        client.close()
    eventually(lambda: len(scene.engine.records) == 20)
    assert scene.engine.active == {}
    assert {record["finish"] for record in scene.engine.records} == {"cancelled"}
