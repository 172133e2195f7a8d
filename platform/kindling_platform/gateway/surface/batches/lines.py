"""The lines of a batch's input: read one by one, and checked before the first of them runs."""

import hashlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import msgspec

from kindling_platform.batches.bounds import MAX_LINES
from kindling_platform.gateway.request import BODY_CAP_BYTES

MAX_ERRORS = 50
MAX_CUSTOM_ID = 512
OBJECT = b"{"


class Line(msgspec.Struct, forbid_unknown_fields=True):
    """One request; its body as it was written."""

    custom_id: str
    method: str
    url: str
    body: msgspec.Raw


class Body(msgspec.Struct):
    """What a batch has to know of a body, as it was written: what else stands there may take long to read."""

    model: msgspec.Raw = msgspec.Raw(b"null")
    stream: msgspec.Raw = msgspec.Raw(b"null")
    background: msgspec.Raw = msgspec.Raw(b"null")
    input: msgspec.Raw = msgspec.Raw(b"null")

    @property
    def name(self) -> str:
        """The model's, "" where it is none."""
        try:
            return msgspec.json.decode(self.model, type=str)
        except msgspec.MsgspecError:
            return ""


@dataclass(frozen=True, slots=True)
class LineError:
    """Why a line cannot run; `line` counts from 1, 0 is the whole file."""

    code: str
    message: str
    line: int = 0
    param: str | None = None

    def told(self) -> dict[str, Any]:
        """As OpenAI's batches tell it."""
        return {"code": self.code, "message": self.message, "line": self.line or None, "param": self.param}


class LineTooLongError(Exception):
    """A line without an end, at `number` counted from 0."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


async def lines_split(parts: AsyncIterator[bytes]) -> AsyncIterator[tuple[int, bytes]]:
    """The lines of a text that are not empty, with their numbers from 0. Errors: LineTooLongError."""
    held, number = b"", 0
    async for part in parts:
        *whole, held = (held + part).split(b"\n")
        for line in whole:
            if text := line.strip():
                _check_size(text, number)
                yield number, text
            number += 1
        _check_size(held, number)
    if text := held.strip():
        _check_size(text, number)
        yield number, text


def line_read(text: bytes) -> Line:
    """A line that was checked before."""
    return msgspec.json.decode(text, type=Line)


class Checker:
    """Looks at every line of a batch for one endpoint; `errors` are the first that it found."""

    def __init__(self, endpoint: str) -> None:
        self._endpoint = endpoint
        self._seen: set[bytes] = set()
        self.errors: list[LineError] = []
        self.total = 0
        self.model = ""

    @property
    def is_full(self) -> bool:
        """Whether reading on tells nobody anything."""
        return len(self.errors) >= MAX_ERRORS or self.total > MAX_LINES

    def take(self, number: int, text: bytes) -> None:
        """Look at a line."""
        self.total += 1
        if self.total > MAX_LINES:
            self._note(
                0, "too_many_lines", f"A batch may have at most {MAX_LINES:,} requests. Split the file."
            )
            return
        try:
            line = msgspec.json.decode(text, type=Line)
            body = msgspec.json.decode(line.body, type=Body) if bytes(line.body).startswith(OBJECT) else None
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            self._note(number + 1, "invalid_line", f"This line is no request of a batch: {str(error)[:200]}.")
            return
        self._check(number + 1, line, body)

    def end(self) -> None:
        """All lines were seen."""
        if not self.total:
            self._note(0, "empty_file", "The file has no lines. Each line is one request, as JSON.")

    def _check(self, number: int, line: Line, body: Body | None) -> None:
        if not 0 < len(line.custom_id) <= MAX_CUSTOM_ID:
            self._note(
                number,
                "invalid_custom_id",
                f"custom_id has to have 1 to {MAX_CUSTOM_ID} characters.",
                "custom_id",
            )
        elif (mark := _mark(line.custom_id)) in self._seen:
            self._note(number, "duplicate_custom_id", "Another line has the same custom_id.", "custom_id")
        else:
            self._seen.add(mark)
        if line.method != "POST":
            self._note(number, "invalid_method", "method has to be POST.", "method")
        if line.url != self._endpoint:
            message = f"url has to be the batch's endpoint, {self._endpoint}."
            self._note(number, "mismatched_url", message, "url")
        if body is None:
            self._note(number, "invalid_body", "body has to be an object.", "body")
        elif _asks(body.stream) or _asks(body.background):
            name = "stream" if _asks(body.stream) else "background"
            self._note(
                number,
                "unsupported_field",
                f"{name} has no meaning in a batch; leave it out.",
                f"body.{name}",
            )
        elif not body.name or "\0" in body.name:
            self._note(number, "missing_field", "The body names no model.", "body.model")
        else:
            self.model = self.model or body.name[:160]

    def _note(self, line: int, code: str, message: str, param: str | None = None) -> None:
        if len(self.errors) < MAX_ERRORS:
            self.errors.append(LineError(code, message.replace("\0", ""), line, param))


def body_read(line: Line) -> Body:
    """What a batch has to know of a line that was checked before."""
    return msgspec.json.decode(line.body, type=Body)


def _asks(value: msgspec.Raw) -> bool:
    return bytes(value).strip() not in (b"null", b"false")


def _mark(text: str) -> bytes:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def too_long(number: int) -> LineError:
    """A line that no request can be."""
    most = BODY_CAP_BYTES // (1024 * 1024)
    return LineError("line_too_long", f"A line may have at most {most} MiB.", number + 1)


def _check_size(text: bytes, number: int) -> None:
    if len(text) > BODY_CAP_BYTES:
        raise LineTooLongError(number)
