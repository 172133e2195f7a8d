"""Reads the form with which a file is uploaded, and stores the file while it arrives."""

import asyncio
import re
from typing import Any, cast

from aiohttp import BodyPartReader, MultipartReader
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.streams import StreamReader

from kindling_platform.batches.bounds import MAX_FILE_BYTES
from kindling_platform.gateway.bodies import BodyUnreadError, refused_unread
from kindling_platform.gateway.errors import GatewayError, shown
from kindling_platform.gateway.request import Request
from kindling_platform.gateway.surface.fields import invalid_value, missing_field, unsupported
from kindling_platform.gateway.surface.files.store import (
    KEPT_S,
    UPLOAD_S,
    UPLOADED,
    FileWriter,
    StoredFile,
)
from kindling_platform.gateway.surface.files.stream import BodyStream

MAX_FIELD_BYTES = 4096
MAX_FIELDS = 10
READ_BYTES = 64 * 1024
MIN_KEPT_S = 3600
MULTIPART = b"multipart/form-data"
# Those of OpenAI's, of which only the first has something here that reads it.
PURPOSES = (UPLOADED, "assistants", "fine-tune", "vision", "user_data", "evals")
UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f/\\]")
DEFAULT_NAME = "upload.jsonl"


class Form:
    """The fields of an upload beside its file."""

    def __init__(self) -> None:
        self._fields: dict[str, str] = {}

    async def take(self, part: BodyPartReader, name: str) -> None:
        """Read a field. Errors: 400 that name it."""
        text = bytearray()
        while chunk := await part.read_chunk(MAX_FIELD_BYTES):  # as much as has arrived
            text += chunk
            if len(text) > MAX_FIELD_BYTES:
                raise invalid_value(name[:80], f"{name[:80]} may have at most {MAX_FIELD_BYTES} bytes.")
        if len(self._fields) >= MAX_FIELDS or name in self._fields:
            raise invalid_value(name[:80], "The form has too many fields, or one of them twice.")
        try:
            self._fields[name] = text.decode()
        except UnicodeDecodeError:
            raise invalid_value(name[:80], f"{name[:80]} is not valid UTF-8.") from None

    def purpose(self) -> str:
        purpose = self._fields.pop("purpose", "")
        if not purpose:
            raise missing_field("purpose")
        if purpose not in PURPOSES:
            raise invalid_value("purpose", f"purpose has to be one of {', '.join(PURPOSES)}.")
        if purpose != UPLOADED:
            raise unsupported(
                "purpose", f"Files for {purpose} are not supported here; the purpose has to be batch."
            )
        return purpose

    def kept_s(self) -> int:
        """For how long the file is wanted: `expires_after[anchor]` and `expires_after[seconds]`."""
        anchor, seconds = (
            self._fields.pop("expires_after[anchor]", None),
            self._fields.pop("expires_after[seconds]", None),
        )
        if anchor is None and seconds is None:
            return KEPT_S
        return kept_read(
            anchor, int(seconds) if seconds and seconds.isascii() and seconds.isdigit() else seconds
        )

    def end(self) -> None:
        """Refuse what was not read."""
        for name in self._fields:
            raise unsupported(name[:80])


def kept_read(anchor: Any, seconds: Any, path: str = "expires_after") -> int:
    """The seconds of an expiry. Errors: 400 that name the field."""
    if anchor != "created_at":
        raise invalid_value(f"{path}.anchor", f"{path}.anchor has to be created_at.")
    if type(seconds) is not int or not MIN_KEPT_S <= seconds <= KEPT_S:
        message = f"{path}.seconds has to be an integer from {MIN_KEPT_S} to {KEPT_S}."
        raise invalid_value(f"{path}.seconds", message)
    return seconds


def most_bytes(request: Request) -> int:
    """How large the file of an upload can be, from what the request says of its body."""
    declared = request.headers.get(b"content-length", b"")
    return min(int(declared), MAX_FILE_BYTES) if declared.isdigit() else MAX_FILE_BYTES


async def upload_read(request: Request, writer: FileWriter) -> StoredFile:
    """Store the file of a form; what is wrong with the form ends it, and leaves nothing visible.

    Raises:
        GatewayError: 400 `invalid_multipart` and ones that name a field, 413 `file_too_large`, 415, 408.
    """
    try:
        async with asyncio.timeout(UPLOAD_S) as bound:
            return await _read(request, writer)
    except TimeoutError as error:
        if not bound.expired():
            raise
        message = f"The upload took longer than {UPLOAD_S // 60} minutes. Split the file."
        raise BodyUnreadError(408, "request_timeout", message) from error


async def _read(request: Request, writer: FileWriter) -> StoredFile:
    kind = request.headers.get(b"content-type", b"")
    if not kind.lower().startswith(MULTIPART):
        message = "A file is uploaded as multipart/form-data with the fields purpose and file."
        raise BodyUnreadError(415, "unsupported_media_type", message)
    form, filename = Form(), None
    with refused_unread(True):
        try:
            reader = MultipartReader(
                {"Content-Type": kind.decode("latin-1")}, cast(StreamReader, BodyStream(request.parts()))
            )
            while (part := await reader.next()) is not None:
                if not isinstance(part, BodyPartReader) or not part.name:
                    raise invalid_multipart("a part of it has no name")
                if part.name != "file":
                    await form.take(part, shown(part.name))
                elif filename is not None:
                    raise invalid_value("file", "The form has more than one file.")
                else:
                    filename = UNPRINTABLE.sub("_", shown(part.filename or DEFAULT_NAME))[:255]
                    await _store(part, writer)
        except (ValueError, LookupError, AssertionError, RuntimeError, HttpProcessingError) as error:
            raise invalid_multipart(str(error)[:100]) from error
    purpose, kept_s = form.purpose(), form.kept_s()
    form.end()
    if filename is None:
        raise missing_field("file")
    if not writer.size_bytes:
        raise invalid_value("file", "The file is empty.")
    return await writer.end(filename=filename, purpose=purpose, kept_s=kept_s)


async def _store(part: BodyPartReader, writer: FileWriter) -> None:
    while text := await part.read_chunk(READ_BYTES):
        if writer.size_bytes + len(text) > MAX_FILE_BYTES:
            most = MAX_FILE_BYTES // (1024 * 1024)
            raise BodyUnreadError(413, "file_too_large", f"A file may have at most {most} MiB. Split it.")
        await writer.write(text)


def invalid_multipart(why: str) -> GatewayError:
    """400 for a form that cannot be read."""
    return BodyUnreadError(400, "invalid_multipart", f"The form of this upload cannot be read: {why}.")
