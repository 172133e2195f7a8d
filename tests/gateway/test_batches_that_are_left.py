"""Batches whose process dies or stops: others go on, no line is lost, and none is charged twice."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import openai
import psycopg
import pytest

from kindling_batches import CHAT, begin, ended, jsonl, lines_of, request
from kindling_gateway import GatewayServer, eventually
from kindling_gateways import GatewayProcess
from kindling_platform.batches.seal import Seal
from kindling_platform.common.org_seal import SealBrokenError
from kindling_platform.gateway.surface.batches.job import LINES_AT_ONCE
from kindling_spools import billed, shipped

LINES = 100
# What a killed process leaves is free for others once its leases are over.
OVER = (
    "UPDATE batches_batch SET leased_until = now() - interval '1 s', due_at = now() WHERE lease IS NOT NULL",
    "UPDATE usage_idempotentreply SET leased_until = now() - interval '1 s' WHERE status = 0",
)

KEEPING = (
    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    " AND query LIKE 'UPDATE usage_idempotentreply SET status%'"
)


def client_of(url: str, key: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0)


def charged(scene) -> list[int]:
    """Output tokens of each request that is charged."""
    records = [one for one in scene.engine.records if one["tenant"] == scene.customer.id]
    ours = {one["request_id"] for one in records}
    # A request that is voided for a dead process is known by its id alone.
    own = {
        name: row
        for name, row in shipped(scene.world).items()
        if row.record.tenant == scene.customer.id or name in ours
    }
    assert all(json.loads(row.record.context).get("batch") for row in own.values())
    return [tokens for tokens in billed(own, records).values() if tokens]


@pytest.mark.parametrize(
    "point", ["batch.answered", "batch.put", "batch.written", "relay.last", "idempotency.kept"]
)
def test_one_whose_process_dies_is_gone_on_with(scene, tmp_path: Path, point: str):
    with GatewayProcess(scene.world, tmp_path / "a", crash_at=point) as dying:
        made = begin(client_of(dying.url, scene.key), [request(n) for n in range(LINES)])
        assert dying.process.wait(60) == 137
    for statement in OVER:
        scene.world.execute(statement)
    with GatewayProcess(scene.world, tmp_path / "b") as heir:
        client = client_of(heir.url, scene.key)
        read = ended(client, made)
        answers = lines_of(client, read.output_file_id)
        eventually(lambda: len(charged(scene)) == LINES)
    assert (read.status, read.request_counts.completed, read.request_counts.failed) == ("completed", LINES, 0)
    assert [line["custom_id"] for line in answers] == [f"r{n}" for n in range(LINES)]
    assert charged(scene) == [8] * LINES


def test_one_that_is_killed_in_the_midst_of_its_lines(scene, tmp_path: Path):
    scene.engine.behaviour.held_at = 3
    with GatewayProcess(scene.world, tmp_path / "a") as dying:
        made = begin(client_of(dying.url, scene.key), [request(n) for n in range(LINES)])
        eventually(lambda: len(scene.engine.active) == LINES_AT_ONCE)
        dying.kill()
    scene.engine.behaviour.held_at = None
    for statement in OVER:
        scene.world.execute(statement)
    with GatewayProcess(scene.world, tmp_path / "b") as heir:
        read = ended(client_of(heir.url, scene.key), made)
        eventually(lambda: len(charged(scene)) == LINES)
    assert read.request_counts.completed == LINES
    assert sorted(charged(scene)) == [8] * LINES


def test_one_whose_process_stops_in_order_is_gone_on_with(server: GatewayServer, scene, tmp_path: Path):
    scene.engine.behaviour.held_at = 3
    client = client_of(server.url, scene.key)
    with GatewayProcess(scene.world, tmp_path / "a") as stopping:
        scene.world.execute("UPDATE batches_batch SET due_at = now() WHERE status = 'in_progress'")
        made = begin(client_of(stopping.url, scene.key), [request(n) for n in range(LINES)])
        eventually(lambda: len(scene.engine.active) == LINES_AT_ONCE)
        stopping.process.terminate()
        scene.engine.behaviour.held_at = None
        # On a crowded machine lines may wait until their leases of a minute are over.
        read = ended(client, made, seconds=120)
        stopping.process.wait(60)
    assert read.request_counts.completed == LINES
    eventually(lambda: len(charged(scene)) == LINES)
    assert sorted(charged(scene)) == [8] * LINES


def test_what_is_being_kept_when_its_process_stops_is_charged_once_and_made_once(scene, tmp_path: Path):
    scene.engine.behaviour.held_at = 3
    with (
        GatewayProcess(scene.world, tmp_path / "a") as stopping,
        psycopg.connect(scene.world.url) as lock,
        psycopg.connect(scene.world.url, autocommit=True) as looking,
    ):
        made = begin(client_of(stopping.url, scene.key), [request(0)])
        eventually(lambda: len(scene.engine.active) == 1)
        lock.execute("SELECT 1 FROM usage_idempotentreply FOR UPDATE")
        scene.engine.behaviour.held_at = None
        eventually(lambda: looking.execute(KEEPING).fetchone() == (1,))
        stopping.process.terminate()
        time.sleep(0.5)  # the batch is let go of, well within the statement's two seconds
        lock.rollback()
        stopping.process.wait(60)
    with GatewayProcess(scene.world, tmp_path / "b") as heir:
        read = ended(client_of(heir.url, scene.key), made)
        eventually(lambda: len(charged(scene)) == 1)
    assert read.request_counts.completed == 1
    assert charged(scene) == [8]
    asked = [one for one in scene.engine.received if one.headers["x-kindling-tenant"] == scene.customer.id]
    assert len(asked) == 1


def test_two_processes_share_the_work_and_neither_does_the_others(
    server: GatewayServer, scene, tmp_path: Path
):
    with GatewayProcess(scene.world, tmp_path / "a") as other:
        clients = [client_of(server.url, scene.key), client_of(other.url, scene.key)]
        made = [begin(clients[n % 2], [request(line) for line in range(20)]) for n in range(10)]
        read = [ended(clients[0], batch) for batch in made]
    assert [batch.request_counts.completed for batch in read] == [20] * 10
    eventually(lambda: len(charged(scene)) == 200)
    ours = [one for one in scene.engine.received if one.headers["x-kindling-tenant"] == scene.customer.id]
    assert len(ours) == 200


def test_a_lease_that_is_lost_ends_the_work(server: GatewayServer, scene):
    scene.engine.behaviour.held_at = 3
    client = client_of(server.url, scene.key)
    made = begin(client, [request(n) for n in range(10)])
    eventually(lambda: len(scene.engine.active) == 10)
    scene.world.execute("DELETE FROM batches_batch WHERE id = %s", made.id)
    eventually(lambda: not scene.engine.active)
    scene.engine.behaviour.held_at = None
    assert scene.world.value("SELECT count(*) FROM batches_batchresult WHERE batch_id = %s", made.id) == 0
    assert ended(client, begin(client, [request(0)])).status == "completed"


def test_its_file_stays_for_as_long_as_it_may_want_it(server: GatewayServer, scene):
    client = client_of(server.url, scene.key)
    file = client.files.create(
        file=("in.jsonl", jsonl([request(0)])),
        purpose="batch",
        expires_after={"anchor": "created_at", "seconds": 3600},
    )
    batch = client.batches.create(input_file_id=file.id, endpoint=CHAT, completion_window="24h")
    assert client.files.retrieve(file.id).expires_at > batch.expires_at
    ended(client, batch)


@pytest.mark.parametrize(
    ("damage", "code"),
    [
        ("DELETE FROM batches_filepart WHERE file_id = %s", "file_not_found"),
        ("UPDATE batches_filepart SET sealed = 'x' WHERE file_id = %s", "file_not_found"),
    ],
)
def test_one_whose_file_cannot_be_read_ends(server: GatewayServer, scene, damage: str, code: str):
    client = client_of(server.url, scene.key)
    file = client.files.create(file=("in.jsonl", jsonl([request(0)])), purpose="batch")
    scene.world.execute(damage, file.id)
    batch = client.batches.create(input_file_id=file.id, endpoint=CHAT, completion_window="24h")
    read = ended(client, batch)
    assert (read.status, [error.code for error in read.errors.data]) == ("failed", [code])


def test_one_whose_results_cannot_be_opened_ends(
    server: GatewayServer, scene, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(Seal, "open", broken(Seal.open))
    client = client_of(server.url, scene.key)
    read = ended(client, begin(client, [request(0)]))
    assert (read.status, [error.code for error in read.errors.data]) == ("failed", ["file_sealed"])


def broken(opened: Callable[..., bytes]) -> Callable[..., bytes]:
    """Opens what belongs to files, and nothing that belongs to batches."""

    def open_files(seal: Seal, sealed: bytes, *, owner: str, **place: Any) -> bytes:
        if owner.startswith("batch_"):
            raise SealBrokenError
        return opened(seal, sealed, owner=owner, **place)

    return open_files
