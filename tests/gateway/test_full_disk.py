"""A gateway whose files may not grow, as on a disk that is full: it refuses, and loses nothing that it has begun."""

import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from kindling_gateway import chat, eventually
from kindling_gateways import GatewayProcess
from kindling_spools import shipped_one

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs prlimit")


@contextmanager
def no_file_may_grow(gateway: GatewayProcess) -> Iterator[None]:
    """Every write of the gateway to a file fails, its log's too; what it sends to sockets does not."""
    pid = gateway.process.pid
    before = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (1, before[1]))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_FSIZE, before)


def test_a_request_that_cannot_be_recorded_reaches_no_engine(scene, tmp_path: Path):
    headers = {"Authorization": f"Bearer {scene.key}"}
    with (
        GatewayProcess(scene.world, tmp_path / "log") as gateway,
        httpx.Client(base_url=gateway.url, headers=headers, timeout=60) as http,
    ):
        assert http.post("/v1/chat/completions", json=chat()).status_code == 200
        with no_file_may_grow(gateway):
            replies = [http.post("/v1/chat/completions", json=chat()) for _ in range(5)]
        assert {(reply.status_code, reply.json()["error"]["code"]) for reply in replies} == {
            (503, "spool_full")
        }
        assert len(scene.engine.received) == 1
        reply = http.post("/v1/chat/completions", json=chat())
        assert reply.status_code == 200
        request_id = reply.headers["x-request-id"]
        assert eventually(lambda: shipped_one(scene.world, request_id)).verdict == "closed"


def test_what_ends_while_the_disk_is_full_is_recorded_when_it_is_not(scene, tmp_path: Path):
    scene.engine.behaviour.tokens, scene.engine.behaviour.delay_s = 8, 0.05
    headers = {"Authorization": f"Bearer {scene.key}"}
    with (
        GatewayProcess(scene.world, tmp_path / "log") as gateway,
        httpx.Client(base_url=gateway.url, headers=headers, timeout=60) as http,
        http.stream("POST", "/v1/chat/completions", json=chat(stream=True)) as reply,
    ):
        parts = reply.iter_bytes()
        next(parts)
        with no_file_may_grow(gateway):
            text = b"".join(parts)
            assert b"[DONE]" in text
            assert shipped_one(scene.world, reply.headers["x-request-id"]) is None
        row = eventually(lambda: shipped_one(scene.world, reply.headers["x-request-id"]))
    assert (row.verdict, row.tokens) == ("closed", (7, 8))
