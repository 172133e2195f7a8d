"""Requests for an adapter go to the live engine that has it in memory; another one is asked when that one is gone."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from kindling_engine.starter import ADAPTER_PATHS
from kindling_engine_process import EngineProcess
from kindling_gateway import GatewayServer, chat, eventually, start_gateway

pytestmark = pytest.mark.stack
HELD, OTHER = list(ADAPTER_PATHS)[:2]


@pytest.fixture
def engines(tmp_path: Path) -> Iterator[list[EngineProcess]]:
    """Two replicas of the starter model, neither of which has used an adapter yet."""
    folders = [tmp_path / name for name in ("one", "two")]
    for folder in folders:
        folder.mkdir()
    with EngineProcess(folders[0]) as one, EngineProcess(folders[1]) as two:
        yield [one, two]


@pytest.fixture
def own(shared) -> Iterator[GatewayServer]:
    with start_gateway(shared.world) as running:
        yield running


def test_an_adapter_is_asked_for_where_it_lies(own: GatewayServer, scene, engines: list[EngineProcess]):
    cold, warm = engines
    base = scene.new_model(cold.url, warm.url)
    model_id = scene.world.value("SELECT model_id FROM gateway_model WHERE name = %s", base.split("/")[1])
    hashes = {name: {engine.add_adapter(name) for engine in engines}.pop() for name in (HELD, OTHER)}
    for name, digest in hashes.items():
        scene.world.adapter(scene.customer, name, model_id=model_id, base_ref=base)
        scene.world.execute(
            "UPDATE gateway_model SET adapter_hash = %s WHERE name = %s AND org_id = %s",
            digest, name, scene.customer.id,
        )  # fmt: skip
    held = hashes[HELD]
    scene.world.execute("UPDATE gateway_model SET context_length = 1024 WHERE model_id = %s", model_id)
    loaded = httpx.post(f"{warm.url}/lora/prefetch", json={"adapter": held}, timeout=60)
    assert loaded.status_code == 200, loaded.text

    with own.client(scene.key) as client:

        def ask(name: str) -> httpx.Response:
            body = chat(f"{scene.customer.slug}/{name}", max_tokens=2, perf_metrics_in_response=True)
            reply = client.post("/v1/chat/completions", json=body)
            assert reply.status_code == 200, reply.text
            return reply

        ask(OTHER)  # has the gateway ask both engines what they hold
        known = own.gateway._router._tiers._known
        eventually(lambda: held in known.get(warm.url, {}) and cold.url in known)
        for _ in range(6):
            reply = ask(HELD)
            assert reply.headers["x-kindling-adapter-hit"] == "true"
            assert reply.json()["perf_metrics"]["adapter_load_ms"] == 0
        assert [one.adapter for one in warm.records()].count(held) == 6
        assert held not in {one.adapter for one in cold.records()}
        warm.kill()
        assert ask(HELD).headers["x-kindling-adapter-hit"] == "false"
        assert [one.adapter for one in cold.records()].count(held) == 1
