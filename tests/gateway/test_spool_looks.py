"""Looking for spools of dead siblings goes on whatever one look meets, and what is damaged is kept aside."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import msgspec
import pytest

from kindling_engine.protocol.usage_log import UsageRecord
from kindling_platform.gateway.spool import metering
from kindling_platform.gateway.spool.files import SpoolFiles
from kindling_platform.gateway.spool.folder import SpoolFolder, folders_abandoned
from kindling_platform.gateway.spool.frames import Kind
from kindling_platform.gateway.spool.metering import FOLDER, Metering
from kindling_platform.gateway.spool.replay import Replayed, folder_replay


class Rows:
    """A database that remembers what it is given."""

    def __init__(self) -> None:
        self.given: list[dict[str, str]] = []

    async def write(self, query: str, values: Any) -> None:
        self.given += msgspec.json.decode(values["rows"])


class Quiet:
    """A log of the names of what was said."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def info(self, event: str, **facts: Any) -> None:
        self.said.append(event)

    debug = warning = error = info


def record(request_id: UUID) -> bytes:
    return msgspec.json.encode(UsageRecord(str(request_id), "{}", "", "", 1, 0, 2, "stop", 1, None, 2, ""))


def leave(root: Path, *ids: UUID) -> SpoolFiles:
    """A spool of a process that has died with these requests in it."""
    spool = SpoolFiles(root)
    for one in ids:
        spool.append(Kind.CLOSED, one, record(one))
    spool.close()
    return spool


async def test_a_look_that_fails_is_not_the_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    failures = [OSError(24, "Too many open files")]

    def look(root: Path, *, but: str) -> Iterator[SpoolFolder]:
        if failures:
            raise failures.pop()
        return folders_abandoned(root, but=but)

    monkeypatch.setattr(metering, "folders_abandoned", look)
    database, log = Rows(), Quiet()
    running = Metering(tmp_path, database, log, look_every_s=0.01)  # type: ignore[arg-type]
    request_id = uuid4()
    leave(tmp_path / FOLDER, request_id)
    running.open()
    async with asyncio.timeout(60):
        while "spool_replayed" not in log.said:
            await asyncio.sleep(0.01)
    await running.close()
    assert log.said == ["spools_not_looked_for", "spool_replayed"]
    assert [row["id"] for row in database.given] == [str(request_id)]
    assert list((tmp_path / FOLDER).iterdir()) == []


async def test_what_stands_behind_a_damaged_frame_is_kept_aside(tmp_path: Path):
    first, lost, hidden = uuid4(), uuid4(), uuid4()
    path = leave(tmp_path, first, lost, hidden).folder.file(0)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0x55
    path.write_bytes(data)
    database = Rows()
    (folder,) = folders_abandoned(tmp_path)
    assert await folder_replay(folder, database) == Replayed(rows=1, damaged=[0])  # type: ignore[arg-type]
    assert [row["id"] for row in database.given] == [str(first)]
    (kept,) = tmp_path.iterdir()
    assert kept.suffix == ".damaged" and kept.read_bytes() == data
    assert list(folders_abandoned(tmp_path)) == []


async def test_a_spool_that_is_whole_leaves_nothing(tmp_path: Path):
    leave(tmp_path, uuid4(), uuid4())
    (folder,) = folders_abandoned(tmp_path)
    assert await folder_replay(folder, Rows()) == Replayed(rows=2)  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []
