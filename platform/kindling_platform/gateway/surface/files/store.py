"""Files in Postgres, in sealed pieces of a megabyte; every query names the organisation they belong to."""

import asyncio
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from kindling_platform.batches.bounds import FILE_KEPT_S, MAX_ORG_BYTES, PART_BYTES
from kindling_platform.batches.seal import Seal
from kindling_platform.common.ids import uuid7
from kindling_platform.common.org_seal import SealBrokenError, SealedTooLongError
from kindling_platform.gateway.auth import Caller
from kindling_platform.gateway.bodies import BodyUnreadError
from kindling_platform.gateway.database import Database, DatabaseUnavailableError
from kindling_platform.gateway.errors import GatewayError, books_unavailable
from kindling_platform.gateway.surface.files import queries
from kindling_platform.gateway.surface.query import Page

KEPT_S = FILE_KEPT_S
MAX_UPLOADS = 8
# An upload that takes longer is ended; what is left of one after that belongs to no living process.
UPLOAD_S = 30 * 60
UPLOADED = "batch"
FILE_ID = re.compile(r"file-[0-9a-f]{32}")


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file that can be read."""

    id: str
    organisation_id: str
    filename: str
    purpose: str
    size_bytes: int
    created_at: datetime
    expires_at: datetime


class FileStore:
    """Errors of every method: 503 `database_unavailable`, 404 `file_not_found` where a file is named."""

    def __init__(self, database: Database, secret: str) -> None:
        self._database = database
        self._seal = Seal(secret)

    async def writer(self, org_id: str, key_id: str, *, purpose: str, most_bytes: int = 0) -> "FileWriter":
        """Begin a file that nobody sees until it is complete; until then it counts as `most_bytes`."""
        file_id = f"file-{uuid7().hex}"
        await self._run(
            queries.OPEN, id=file_id, org=org_id, key=key_id, purpose=purpose, size=most_bytes, kept_s=KEPT_S
        )
        return FileWriter(self, org_id, file_id)

    async def get(self, org_id: str, file_id: str) -> StoredFile:
        is_id = FILE_ID.fullmatch(file_id)  # Postgres does not take every text
        rows = await self._rows(queries.READ, id=file_id, org=org_id) if is_id else []
        if not rows:
            raise file_not_found(file_id)
        return StoredFile(**rows[0])

    async def page(self, org_id: str, asked: Page, *, purpose: str = "") -> list[StoredFile]:
        """Up to one file more than were asked for, which says that there are more."""
        query = queries.OLDEST if asked.ascending else queries.NEWEST
        rows = await self._rows(query, org=org_id, purpose=purpose, after=asked.after, limit=asked.limit + 1)
        return [StoredFile(**row) for row in rows]

    async def room_check(self, org_id: str) -> None:
        """Refuse an upload that has begun and is one too many, or too large for what is left of the room.

        It is counted before it is judged: of those that begin at the same time, none can pass unseen by all others.

        Raises:
            GatewayError: 429 `too_many_uploads`, 413 `files_full`.
        """
        row = (await self._rows(queries.HELD, org=org_id, sent=UPLOADED, upload_s=UPLOAD_S))[0]
        if row["uploads"] > MAX_UPLOADS:
            message = f"{MAX_UPLOADS} uploads of your organisation are under way. Try again when one of them has ended."
            raise BodyUnreadError(429, "too_many_uploads", message, headers={"retry-after": "5"})
        if row["bytes"] > MAX_ORG_BYTES:
            most = MAX_ORG_BYTES // (1024 * 1024 * 1024)
            message = (
                f"The files of your organisation would have more than {most} GiB, those that are being uploaded among"
                " them. Delete some of them first."
            )
            raise BodyUnreadError(413, "files_full", message)

    async def read(self, file: StoredFile) -> AsyncIterator[bytes]:
        """The pieces of a file. One that can no longer be opened, or was deleted meanwhile, ends in a 404."""
        left, number = file.size_bytes, 0
        while left > 0:
            rows = await self._rows(queries.PART, id=file.id, number=number)
            if not rows:
                raise file_not_found(file.id)
            text = await asyncio.to_thread(self._open, file, number, bytes(rows[0]["sealed"]))
            left, number = left - len(text), number + 1
            yield text

    async def delete(self, org_id: str, file_id: str) -> None:
        """Delete a file. Errors: 409 `file_in_use` while a batch reads it."""
        await self.get(org_id, file_id)
        if await self._rows(queries.DELETE, id=file_id, org=org_id):
            return
        await self.get(org_id, file_id)  # somebody else may have been faster
        message = "A batch that is not over reads this file. Cancel the batch, or wait until it has ended."
        raise GatewayError(409, "file_in_use", message)

    async def drop(self, org_id: str, file_id: str) -> None:
        """Delete whatever there is of a file."""
        await self._rows(queries.DROP, id=file_id, org=org_id)

    async def put_part(self, org_id: str, file_id: str, number: int, text: bytes) -> None:
        sealed = await asyncio.to_thread(self._seal.close, text, org_id=org_id, owner=file_id, number=number)
        await self._run(queries.PUT_PART, id=file_id, number=number, sealed=sealed)

    async def complete(self, org_id: str, file_id: str, **facts: Any) -> StoredFile:
        rows = await self._rows(queries.COMPLETE, id=file_id, org=org_id, **facts)
        if not rows:
            raise file_not_found(file_id)
        return StoredFile(**rows[0])

    def _open(self, file: StoredFile, number: int, sealed: bytes) -> bytes:
        org_id = file.organisation_id
        try:
            return self._seal.open(sealed, org_id=org_id, owner=file.id, number=number, most_bytes=PART_BYTES)
        except (SealBrokenError, SealedTooLongError) as error:
            raise file_not_found(file.id) from error

    async def _rows(self, query: str, **values: Any) -> list[dict[str, Any]]:
        try:
            return await self._database.rows(query, values)
        except DatabaseUnavailableError as error:
            raise books_unavailable() from error

    async def _run(self, query: str, **values: Any) -> None:
        try:
            await self._database.write(query, values)
        except DatabaseUnavailableError as error:
            raise books_unavailable() from error


class FileWriter:
    """Takes a file's bytes as they come and stores them piece by piece."""

    def __init__(self, store: FileStore, org_id: str, file_id: str) -> None:
        self._store = store
        self._org_id = org_id
        self._held = bytearray()
        self._number = 0
        self.id = file_id
        self.size_bytes = 0

    async def write(self, text: bytes) -> None:
        self._held += text
        self.size_bytes += len(text)
        while len(self._held) >= PART_BYTES:
            await self._put(bytes(self._held[:PART_BYTES]))
            del self._held[:PART_BYTES]

    async def end(
        self, *, filename: str, purpose: str, kept_s: int = KEPT_S, visible: bool = True
    ) -> StoredFile:
        """Store what is left; `visible` files can be read from now on."""
        if self._held:
            await self._put(bytes(self._held))
        return await self._store.complete(
            self._org_id, self.id, filename=filename, purpose=purpose, size=self.size_bytes, kept_s=kept_s,
            visible=visible,
        )  # fmt: skip

    async def drop(self) -> None:
        """Forget it all."""
        await self._store.drop(self._org_id, self.id)

    async def _put(self, text: bytes) -> None:
        await self._store.put_part(self._org_id, self.id, self._number, text)
        self._number += 1


def file_not_found(file_id: str) -> GatewayError:
    """404 for a file that there is not, or that belongs to others."""
    return GatewayError(404, "file_not_found", f"There is no file {file_id[:80]!r} of your organisation.")


def key_required(caller: Caller) -> None:
    """Refuse client tokens: they are in strangers' hands. Errors: 403 `key_required`."""
    if caller.token is not None:
        message = "Files and batches are the whole organisation's: a client token cannot reach them. Use an API key."
        raise GatewayError(403, "key_required", message)
