"""Many calls at once on a small wallet: what is in flight never exceeds what is there."""

import asyncio

import pytest

from kindling_gateway import GatewayServer, chat, eventually, held_nano

INPUT, OUTPUT = 100_000, 400_000


@pytest.mark.parametrize("stream", [False, True])
async def test_a_hundred_calls_never_hold_more_than_the_balance(server: GatewayServer, scene, stream: bool):
    scene.engine.behaviour.tokens, scene.engine.behaviour.first_delay_s = 10, 0.4
    body = chat(stream=stream, max_tokens=10)
    async with server.async_client(scene.key) as client:
        request = client.build_request("POST", "/v1/chat/completions", json=body)
        each = (len(request.content) + 64 + 16) * INPUT + 10 * OUTPUT
        balance = 7 * each + each // 3
        scene.world.execute(
            "UPDATE gateway_balance SET balance_picousd = %s WHERE org_id = %s", balance, scene.customer.id
        )
        calls = [asyncio.create_task(client.post("/v1/chat/completions", json=body)) for _ in range(100)]
        worst = 0
        while not all(call.done() for call in calls):
            worst = max(
                worst, sum((await asyncio.to_thread(held_nano, scene.valkey, scene.customer)).values())
            )
            await asyncio.sleep(0.01)
        statuses = [call.result().status_code for call in calls]
    assert 0 < worst <= balance // 1000
    assert set(statuses) == {200, 402}
    cost = sum(
        record["prompt_tokens"] * INPUT + record["completion_tokens"] * OUTPUT
        for record in scene.engine.records
    )
    assert len(scene.engine.records) == statuses.count(200) >= 7
    assert cost <= balance
    eventually(lambda: sum(held_nano(scene.valkey, scene.customer).values()) * 1000 >= cost)


async def test_calls_of_one_key_share_one_look_at_the_database(server: GatewayServer, scene):
    async with server.async_client(scene.key) as client:
        replies = await asyncio.gather(*(client.post("/v1/chat/completions", json=chat()) for _ in range(60)))
    assert {reply.status_code for reply in replies} == {200}
    assert len({reply.headers["x-request-id"] for reply in replies}) == 60
