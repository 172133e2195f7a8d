"""What has ended reaches Postgres once, from what is at hand or from the files again."""

import asyncio
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
import pytest

from kindling_engine.protocol.usage_log import UsageRecord
from kindling_platform.common.ids import uuid7
from kindling_platform.gateway.access_log import make_log
from kindling_platform.gateway.database import DatabaseUnavailableError
from kindling_platform.gateway.scribe import Scribe
from kindling_platform.gateway.spool import shipper
from kindling_platform.gateway.spool.folder import folders_abandoned
from kindling_platform.gateway.spool.frames import Kind
from kindling_platform.gateway.spool.metering import FOLDER, Metering
from kindling_platform.gateway.spool.replay import folder_rows
from kindling_spools import shipped


class Moody(Scribe):
    """A database that does not take the first few writes."""

    refusals = 0

    async def write(self, query: str, values: Any) -> None:
        if self.refusals:
            self.refusals -= 1
            raise DatabaseUnavailableError("moody")
        await super().write(query, values)


def record(request_id: UUID) -> bytes:
    made = UsageRecord(
        request_id=str(request_id),
        context="{}",
        tenant="",
        adapter="",
        prompt_tokens=1,
        cached_tokens=0,
        completion_tokens=2,
        finish="stop",
        started_ms=1,
        first_token_ms=None,
        finished_ms=2,
        replica="",
    )
    return msgspec.json.encode(made)


async def spend(scene, home: Path, *, requests: int, refusals: int = 0) -> set[str]:
    """Let so many requests run and the gateway stop; gives their ids."""
    database = Moody(scene.world.url)
    database.refusals = refusals
    await database.open()
    metering = Metering(home, database, make_log("error"))
    metering.open()
    ids = [uuid7() for _ in range(requests)]
    for request_id in ids:
        metering.begin(request_id, record(request_id))
    for request_id in ids:
        metering.note(Kind.CLOSED, request_id, record(request_id))
    await metering.close()
    await database.close()
    return {str(request_id) for request_id in ids}


@pytest.mark.parametrize("most_kept", [2_000, 5])
@pytest.mark.parametrize("batch", [500, 3])
@pytest.mark.parametrize("refusals", [0, 2])
async def test_all_of_it_and_then_the_spool_is_gone(
    scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most_kept: int, batch: int, refusals: int
):
    monkeypatch.setattr(shipper, "MOST_KEPT", most_kept)
    monkeypatch.setattr(shipper, "BATCH", batch)
    monkeypatch.setattr(shipper, "RETRY_S", (0.01,))
    ids = await spend(scene, tmp_path, requests=20, refusals=refusals)
    rows = shipped(scene.world)
    assert ids <= rows.keys()
    assert {rows[request_id].verdict for request_id in ids} == {"closed"}
    assert list((tmp_path / FOLDER).iterdir()) == []


class Busy(Scribe):
    """A database that counts what is written; one more request ends while the first is, another right after that."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.batches: list[int] = []
        self.ends: list[Callable[[], None]] = []

    async def write(self, query: str, values: Mapping[str, str]) -> None:
        self.batches.append(len(msgspec.json.decode(values["rows"])))
        if self.ends:
            self.ends.pop()()
        await super().write(query, values)
        if self.ends:
            asyncio.get_running_loop().call_soon(self.ends.pop())


async def test_what_ends_while_others_are_written_waits_for_company(scene, tmp_path: Path):
    database = Busy(scene.world.url)
    await database.open()
    metering = Metering(tmp_path, database, make_log("error"))
    metering.open()
    ids = [uuid7() for _ in range(3)]

    def end(request_id: UUID) -> None:
        metering.begin(request_id, record(request_id))
        metering.note(Kind.CLOSED, request_id, record(request_id))

    database.ends = [partial(end, request_id) for request_id in ids[1:]]
    end(ids[0])
    async with asyncio.timeout(60):
        while metering.waiting or database.ends:
            await asyncio.sleep(0.01)
    await metering.close()
    await database.close()
    assert database.batches == [1, 2]
    assert {str(request_id) for request_id in ids} <= shipped(scene.world).keys()


async def test_what_postgres_does_not_take_stays_for_the_next_process(
    scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(shipper, "RETRY_S", (60.0,))
    monkeypatch.setattr("kindling_platform.gateway.spool.metering.LAST_SHIPPING_S", 0.2)
    ids = await spend(scene, tmp_path, requests=3, refusals=1)
    assert not ids & shipped(scene.world).keys()
    (folder,) = folders_abandoned(tmp_path / FOLDER)
    assert {str(row.request_id) for row in folder_rows(folder)} == ids
    folder.close()
