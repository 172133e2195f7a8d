"""What whoever works on a batch writes, and what it may not: leases, turns, bounds."""

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any
from uuid import UUID, uuid4

import httpx
import openai
import pytest

from kindling_batches import CHAT, begin, ended, jsonl, lines_of, request
from kindling_gateway import GatewayServer, chat, eventually
from kindling_platform.gateway.admission import Usage
from kindling_platform.gateway.database import Database
from kindling_platform.gateway.surface.batches import call, job, lines
from kindling_platform.gateway.surface.batches.store import (
    COLUMNS,
    Batch,
    LeaseLostError,
    WorkStore,
    batch_from_row,
)


@pytest.fixture
def client(server: GatewayServer, scene) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key=scene.key, max_retries=0)


@pytest.fixture
def rows(scene) -> Iterator[Callable[..., str]]:
    """Makes rows of batches that no gateway claims: they are due tomorrow, unless `due`."""

    def row(*, org: str = "", status: str = "in_progress", lease: UUID | None = None, total: int = 2) -> str:
        name = f"batch_{secrets.token_hex(16)}"
        scene.world.execute(
            "INSERT INTO batches_batch (id, organisation_id, key_id, key_digest, endpoint, input_file_id,"
            " output_file_id, error_file_id, model_name, output_s, status, waits_for, total, completed, failed,"
            " prompt_tokens, cached_tokens, completion_tokens, reasoning_tokens, stored_bytes, lease, leased_until,"
            " due_at, created_at, expires_at) VALUES (%s, %s, 'k', 'd', %s, 'file-x', '', '', '', 60, %s, '', %s,"
            " 0, 0, 0, 0, 0, 0, 0, %s, now() + interval '1 hour', now() + interval '1 day', now(),"
            " now() + interval '1 day')",
            name, org or scene.customer.id, CHAT, status, total, lease,
        )  # fmt: skip
        return name

    yield row
    scene.world.execute("DELETE FROM batches_batchresult")
    scene.world.execute("DELETE FROM batches_batch WHERE input_file_id = 'file-x'")


def with_store(scene, work: Callable[[WorkStore], Awaitable[Any]]) -> Any:
    async def run() -> Any:
        database = Database(scene.world.url, writes=True)
        await database.open()
        try:
            return await work(WorkStore(database))
        finally:
            await database.close()

    return asyncio.run(run())


def batch_of(scene, name: str) -> Batch:
    columns = ", ".join(COLUMNS)
    [row] = scene.world.rows(f"SELECT {columns} FROM batches_batch WHERE id = %s", name)
    return batch_from_row(dict(zip(COLUMNS, row, strict=True)))


def test_whoever_has_lost_the_lease_changes_nothing(scene, rows):
    lease, usage = uuid4(), Usage(5, 1, 3)
    name = rows(lease=lease)
    batch = batch_of(scene, name)

    async def work(store: WorkStore) -> None:
        assert await store.put(batch, 0, b"xyz", failed=False, usage=usage) == 3
        assert await store.put(batch, 0, b"again", failed=True, usage=usage) == 0
        scene.world.execute("UPDATE batches_batch SET lease = %s WHERE id = %s", uuid4(), name)
        assert await store.put(batch, 1, b"late", failed=False, usage=usage) == 0
        for late in (
            store.renew(batch),
            store.park(batch, waits_for="x", wait_s=1),
            store.begin(batch, total=9, model="m"),
            store.finalize(batch),
            store.end(batch, "completed", output="file-a"),
        ):
            with pytest.raises(LeaseLostError):
                await late

    scene.world.execute(
        "INSERT INTO batches_storedfile VALUES ('file-a', %s, 'k', '', 'batch_output', 1, false, now(), now())",
        scene.customer.id,
    )
    with_store(scene, work)
    seen = "SELECT status, completed, failed, prompt_tokens, stored_bytes, total FROM batches_batch WHERE id = %s"
    assert scene.world.rows(seen, name) == [("in_progress", 1, 0, 5, 3, 2)]
    assert scene.world.value("SELECT is_complete FROM batches_storedfile WHERE id = 'file-a'") is False
    assert scene.world.value("SELECT count(*) FROM batches_batchresult WHERE batch_id = %s", name) == 1
    scene.world.execute("DELETE FROM batches_storedfile WHERE id = 'file-a'")


def test_a_cancelled_one_is_not_begun_and_ends_cancelled(scene, rows):
    lease = uuid4()
    name = rows(status="cancelling", lease=lease)
    batch = batch_of(scene, name)
    assert with_store(scene, lambda store: store.begin(batch, total=9, model="m")) is False
    assert with_store(scene, lambda store: store.renew(batch)) == "cancelling"
    assert with_store(scene, lambda store: store.finalize(batch)) == "cancelling"


def test_those_with_the_fewest_at_work_go_first_and_full_ones_not_at_all(scene, rows):
    busy, idle = f"org_{secrets.token_hex(6)}", f"org_{secrets.token_hex(6)}"
    rows(org=busy, lease=uuid4())
    older, newer = rows(org=busy), rows(org=idle)
    free = (
        "UPDATE batches_batch SET leased_until = NULL, due_at = now() - interval '1 day' WHERE id = ANY(%s)"
    )

    async def work(store: WorkStore) -> list[str]:
        # In one breath: the gateway of the other tests looks for work, too.
        scene.world.execute(free, [older, newer])
        return [batch.id for batch in [await store.claim(uuid4()), await store.claim(uuid4())] if batch]

    async def full(store: WorkStore) -> Batch | None:
        scene.world.execute(free, [older])
        return await store.claim(uuid4(), full=[busy])

    assert with_store(scene, work) == [newer, older]
    assert with_store(scene, full) is None


def test_results_come_in_pages_of_bounded_bytes(scene, rows):
    lease = uuid4()
    batch = batch_of(scene, rows(lease=lease))

    async def work(store: WorkStore) -> list[list[int]]:
        for number in range(6):
            await store.put(batch, number, bytes(6 * 1024 * 1024), failed=False, usage=None)
        return [
            [row["number"] for row in await store.results(batch, start=start, limit=50)]
            for start in (0, 3, 6)
        ]

    assert with_store(scene, work) == [[0, 1, 2], [3, 4, 5], []]


def test_an_organisation_with_many_slow_batches_keeps_nobody_waiting(server: GatewayServer, client, scene):
    scene.engine.behaviour.held_at = 1
    slow = [begin(client, [request(n) for n in range(3)]) for _ in range(9)]
    eventually(lambda: len(scene.engine.active) >= 9)
    other = openai.OpenAI(
        base_url=f"{server.url}/v1",
        api_key=scene.world.key(scene.world.org(f"quick-{secrets.token_hex(4)}")),
        max_retries=0,
    )
    quick = begin(other, [request(0, body=chat(max_tokens=1))])
    eventually(lambda: other.batches.retrieve(quick.id).status != "validating")
    scene.engine.behaviour.held_at = None
    assert ended(other, quick).request_counts.completed == 1
    assert {ended(client, batch).status for batch in slow} == {"completed"}


def test_one_that_was_cancelled_before_anybody_looked_ends_without_files(client, scene, rows):
    file = client.files.create(file=("in.jsonl", jsonl([b"{", request(0)])), purpose="batch")
    name = rows(status="cancelling", total=0)
    scene.world.execute(
        "UPDATE batches_batch SET input_file_id = %s, leased_until = NULL, due_at = now(), key_digest ="
        " (SELECT digest FROM gateway_key WHERE org_id = %s LIMIT 1) WHERE id = %s",
        file.id, scene.customer.id, name,
    )  # fmt: skip
    read = ended(client, client.batches.retrieve(name))
    assert (read.status, read.output_file_id, read.error_file_id) == ("cancelled", None, None)


@pytest.mark.parametrize("model", ["a\0b", "", 7, None])
def test_a_model_that_is_none_is_named(client: openai.OpenAI, model: Any):
    read = ended(client, begin(client, [request(0, body={"model": model, "messages": []})]))
    assert (read.status, [error.param for error in read.errors.data]) == ("failed", ["body.model"])


@pytest.mark.parametrize("path", ["batches/a%00b", "batches/batch_%ff", "batches?after=%00", "batches/x/y"])
def test_an_address_that_cannot_be_is_refused(http: httpx.Client, path: str):
    answers = [http.get(f"/v1/{path}"), http.post(f"/v1/{path}/cancel")]
    assert {answer.status_code for answer in answers} <= {400, 404, 405}


def test_custom_ids_are_bounded(client: openai.OpenAI):
    long = [request(0, custom_id="ü" * 512), request(1, custom_id="x" * 513), request(2, custom_id="x" * 513)]
    read = ended(client, begin(client, long))
    assert [(error.code, error.line) for error in read.errors.data] == [
        ("invalid_custom_id", 2),
        ("invalid_custom_id", 3),
    ]


def test_an_answer_is_not_cut_for_want_of_money(
    server: GatewayServer, scene, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(call.WAITS, "insufficient_credit", 0.1)
    poor = scene.world.org(f"poor-{secrets.token_hex(4)}", usd=0.0002)
    client = openai.OpenAI(base_url=f"{server.url}/v1", api_key=scene.world.key(poor), max_retries=0)
    scene.engine.behaviour.tokens = 2000
    made = begin(client, [request(0, body=chat(max_tokens=2000))])
    eventually(lambda: client.batches.retrieve(made.id).to_dict()["waits_for"] == "insufficient_credit")
    scene.world.execute(
        "UPDATE gateway_balance SET balance_picousd = 1e12, version = 2 WHERE org_id = %s", poor.id
    )
    [answer] = lines_of(client, ended(client, made).output_file_id)
    choice = answer["response"]["body"]["choices"][0]
    assert answer["response"]["body"]["usage"]["completion_tokens"] == 2000
    assert choice["message"]["content"].endswith("w2000 ")


def test_one_that_waits_for_long_is_cancelled_at_once(server: GatewayServer, scene):
    poor = scene.world.org(f"poor-{secrets.token_hex(4)}", usd=0)
    client = openai.OpenAI(base_url=f"{server.url}/v1", api_key=scene.world.key(poor), max_retries=0)
    made = begin(client, [request(0)])
    eventually(lambda: client.batches.retrieve(made.id).to_dict()["waits_for"] == "insufficient_credit")
    due = "SELECT due_at > now() + interval '30 s' FROM batches_batch WHERE id = %s"
    assert scene.world.value(due, made.id) is True
    client.batches.cancel(made.id)
    assert ended(client, made, seconds=20).status == "cancelled"


def test_lines_of_a_model_that_is_away_hold_up_no_others(client, scene, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(call, "ROOM_S", 0.2)
    away = scene.new_model(priced=False)
    lines_ = [request(n, body=chat(model=away)) for n in range(job.LINES_AT_ONCE + 6)] + [request("last")]
    made = begin(client, lines_)
    eventually(lambda: client.batches.retrieve(made.id).request_counts.completed == 1)
    eventually(lambda: client.batches.retrieve(made.id).to_dict()["waits_for"] == "price_missing")
    client.batches.cancel(made.id)
    assert ended(client, made).request_counts.completed == 1


def test_a_batch_gives_way_after_a_while_and_goes_on(client, scene, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(job, "SLICE_S", 0.2)
    monkeypatch.setattr(job, "LINES_AT_ONCE", 1)
    scene.engine.behaviour.first_delay_s = 0.15
    made, leases = begin(client, [request(n) for n in range(6)]), set()

    def over() -> bool:
        leases.add(scene.world.value("SELECT lease FROM batches_batch WHERE id = %s", made.id))
        return client.batches.retrieve(made.id).status == "completed"

    eventually(over)
    assert len(leases - {None}) > 1
    assert ended(client, made).request_counts.completed == 6


def test_answers_have_a_bound_together(client, scene, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(job, "MOST_STORED_BYTES", 1000)
    monkeypatch.setattr(job, "LINES_AT_ONCE", 1)
    read = ended(client, begin(client, [request(n) for n in range(20)]))
    assert (read.status, [error.code for error in read.errors.data]) == ("failed", ["files_full"])
    done, rest = lines_of(client, read.output_file_id), lines_of(client, read.error_file_id)
    assert 0 < len(done) < 20
    assert len(done) + len(rest) == 20


def test_bodies_at_work_are_bounded(client, scene, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(job, "MOST_BYTES", 1)
    scene.engine.behaviour.held_at = 1
    made = begin(client, [request(n) for n in range(5)])
    eventually(lambda: scene.engine.active)
    assert len(scene.engine.active) == 1
    scene.engine.behaviour.held_at = None
    assert ended(client, made).request_counts.completed == 5


def test_an_expired_key_ends_it(server: GatewayServer, client, scene):
    key = scene.world.key(scene.customer)
    scene.engine.behaviour.held_at = 1
    leaving = openai.OpenAI(base_url=f"{server.url}/v1", api_key=key, max_retries=0)
    made = begin(leaving, [request(n) for n in range(70)])
    eventually(lambda: len(scene.engine.active) == job.LINES_AT_ONCE)
    of_its = "digest = (SELECT key_digest FROM batches_batch WHERE id = %s)"
    scene.world.execute(f"UPDATE gateway_key SET expires_at = now() WHERE {of_its}", made.id)
    time.sleep(1.1)  # for as long callers are remembered
    scene.engine.behaviour.held_at = None
    read = ended(client, made)
    assert (read.status, [error.code for error in read.errors.data]) == ("failed", ["key_expired"])


def test_what_is_said_of_a_line_can_be_stored():
    checker = lines.Checker(CHAT)
    checker.take(0, b'{"custom_id": "a\\u0000", "bad\\u0000": 1}')
    assert "\0" not in checker.errors[0].message
