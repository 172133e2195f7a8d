"""Makes the files of a batch that is over: one line for each of its input's, in the same order."""

import asyncio
from collections.abc import AsyncIterator, Callable

from kindling_platform.batches.seal import Seal
from kindling_platform.gateway.surface.batches.lines import line_read, lines_split
from kindling_platform.gateway.surface.batches.objects import error_line
from kindling_platform.gateway.surface.batches.store import Batch, WorkStore
from kindling_platform.gateway.surface.files.store import FileStore, FileWriter

MADE = "batch_output"
PAGE = 50
# Of a result: a whole answer, of which some carry vectors.
MAX_RESULT_BYTES = 512 * 1024 * 1024
UNMADE = {
    "expired": ("batch_expired", "The batch's 24 hours were over before it came to this request."),
    "cancelled": ("batch_cancelled", "The batch was cancelled before it came to this request."),
    "failed": ("batch_failed", "The batch was ended before it came to this request; its errors say why."),
}


class Output:
    """The two files; one that would be empty is not made."""

    def __init__(self, files: FileStore, work: WorkStore, seal: Seal, batch: Batch) -> None:
        self._files = files
        self._work = work
        self._seal = seal
        self._batch = batch
        self._writers: dict[bool, FileWriter] = {}

    async def write(self, status: str, alive: Callable[[], None]) -> tuple[str, str]:
        """The ids of what the lines gave and of what went wrong, "" for none; nobody can see them yet.

        `alive` raises when the work is somebody else's by now.
        """
        file = await self._files.get(self._batch.organisation_id, self._batch.input_file_id)
        results = self._results()
        upcoming = await anext(results, None)
        async for number, text in lines_split(self._files.read(file)):
            alive()
            if upcoming and upcoming[0] == number:
                await self._put(upcoming[1], upcoming[2])
                upcoming = await anext(results, None)
            elif status in UNMADE:
                code, message = UNMADE[status]
                await self._put(error_line(line_read(text).custom_id, code=code, message=message), True)
        return await self._end(False, "output"), await self._end(True, "errors")

    async def _results(self) -> AsyncIterator[tuple[int, bytes, bool]]:
        start = 0
        while rows := await self._work.results(self._batch, start=start, limit=PAGE):
            for row in rows:
                text = await asyncio.to_thread(
                    self._seal.open,
                    bytes(row["sealed"]), org_id=self._batch.organisation_id, owner=self._batch.id,
                    number=row["number"], most_bytes=MAX_RESULT_BYTES,
                )  # fmt: skip
                yield row["number"], text, row["failed"]
            start = rows[-1]["number"] + 1

    async def _put(self, line: bytes, failed: bool) -> None:
        if failed not in self._writers:
            batch = self._batch
            self._writers[failed] = await self._files.writer(
                batch.organisation_id, batch.key_id, purpose=MADE
            )
        await self._writers[failed].write(line + b"\n")

    async def _end(self, failed: bool, kind: str) -> str:
        writer = self._writers.get(failed)
        if writer is None:
            return ""
        name = f"{self._batch.id}_{kind}.jsonl"
        await writer.end(filename=name, purpose=MADE, kept_s=self._batch.output_s, visible=False)
        return writer.id
