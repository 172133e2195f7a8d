"""Ships what processes that died have left in their spools, and ends what they had open."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from uuid import UUID

from kindling_platform.common.crash_points import crash_point
from kindling_platform.gateway.scribe import Scribe
from kindling_platform.gateway.spool.folder import Position, SpoolFolder
from kindling_platform.gateway.spool.frames import SHIPPED, Kind, frames_read
from kindling_platform.gateway.spool.rows import INSERT, Row, insert_values, row_of, row_open
from kindling_platform.gateway.spool.shipper import BATCH


@dataclass(slots=True)
class Replayed:
    """How many rows were shipped, and the numbers of files that could not be read to their end."""

    rows: int = 0
    damaged: list[int] = field(default_factory=list)


async def folder_replay(folder: SpoolFolder, database: Scribe) -> Replayed:
    """Ship the rest of a dead process's spool and delete it; a damaged file is kept beside it.

    It may be killed anywhere: the folder stays until all of it is in Postgres, where a row is written once.

    Raises:
        DatabaseUnavailableError: the folder is left as it was.
    """
    done = Replayed()
    rows = folder_rows(folder, done.damaged)
    # In a thread: a spool may be large, and others' streams go on.
    while batch := await asyncio.to_thread(_take, rows):
        await database.write(INSERT, insert_values(folder.name, batch))
        done.rows += len(batch)
        crash_point("replay.inserted")
    for number in done.damaged:
        folder.set_aside(number)
    folder.remove()
    return done


def folder_rows(folder: SpoolFolder, damaged: list[int] | None = None) -> Iterator[Row]:
    """What was not shipped, then every request that has no end; `damaged` gets the files with bytes behind that."""
    opened: dict[UUID, bytes] = {}
    checkpoints: dict[UUID, bytes] = {}
    mark = folder.mark
    for number in folder.files():
        end = 0
        for frame in frames_read(folder.file(number), start=0):
            end = frame.end
            if frame.kind is Kind.OPEN:
                opened[frame.request_id] = frame.data
            elif frame.kind is Kind.CHECKPOINT:
                checkpoints[frame.request_id] = frame.data
            else:
                opened.pop(frame.request_id, None)
                checkpoints.pop(frame.request_id, None)
                if frame.kind in SHIPPED and Position(number, frame.end) > mark:
                    yield row_of(frame)
        if damaged is not None and end < folder.file(number).stat().st_size:
            damaged.append(number)
    for request_id, data in opened.items():
        yield row_open(request_id, data, checkpoints.get(request_id))


def _take(rows: Iterator[Row]) -> list[Row]:
    return list(islice(rows, BATCH))
