"""Ships what processes that died have left in their spools, and ends what they had open."""

import asyncio
from collections.abc import Iterator
from itertools import islice
from uuid import UUID

from kindling_platform.common.crash_points import crash_point
from kindling_platform.gateway.scribe import Scribe
from kindling_platform.gateway.spool.folder import Position, SpoolFolder
from kindling_platform.gateway.spool.frames import SHIPPED, Kind, frames_read
from kindling_platform.gateway.spool.rows import INSERT, Row, insert_values, row_of, row_open
from kindling_platform.gateway.spool.shipper import BATCH


async def folder_replay(folder: SpoolFolder, database: Scribe) -> int:
    """Ship the rest of a dead process's spool and delete it; gives the number of rows.

    It may be killed anywhere: the folder stays until all of it is in Postgres, where a row is written once.

    Raises:
        DatabaseUnavailableError: the folder is left as it was.
    """
    rows = folder_rows(folder)
    count = 0
    # In a thread: a spool may be large, and others' streams go on.
    while batch := await asyncio.to_thread(_take, rows):
        await database.write(INSERT, insert_values(folder.name, batch))
        count += len(batch)
        crash_point("replay.inserted")
    folder.remove()
    return count


def folder_rows(folder: SpoolFolder) -> Iterator[Row]:
    """What was not shipped, then every request that has no end."""
    opened: dict[UUID, bytes] = {}
    checkpoints: dict[UUID, bytes] = {}
    mark = folder.mark
    for number in folder.files():
        for frame in frames_read(folder.file(number), start=0):
            if frame.kind is Kind.OPEN:
                opened[frame.request_id] = frame.data
            elif frame.kind is Kind.CHECKPOINT:
                checkpoints[frame.request_id] = frame.data
            else:
                opened.pop(frame.request_id, None)
                checkpoints.pop(frame.request_id, None)
                if frame.kind in SHIPPED and Position(number, frame.end) > mark:
                    yield row_of(frame)
    for request_id, data in opened.items():
        yield row_open(request_id, data, checkpoints.get(request_id))


def _take(rows: Iterator[Row]) -> list[Row]:
    return list(islice(rows, BATCH))
