"""The durable steps of one request: opened before it is sent, checkpointed while it runs, ended once."""

import time
from dataclasses import dataclass
from uuid import UUID

import msgspec

from kindling_engine.protocol.usage_log import UsageRecord
from kindling_platform.common.crash_points import crash_point
from kindling_platform.gateway.admission import Usage
from kindling_platform.gateway.spool.frames import Kind
from kindling_platform.gateway.spool.metering import Metering
from kindling_platform.gateway.spool.rows import Checkpoint

FAILED = "error"
CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class Opening:
    """What is recorded before an engine gets a request."""

    id: UUID
    record: UsageRecord
    data: bytes


def opening(request_id: str, *, context: str, tenant: str, adapter: str, replica: str) -> Opening:
    """The record of a request that has used nothing yet."""
    now_ms = _now_ms()
    record = UsageRecord(
        request_id=request_id,
        context=context,
        tenant=tenant,
        adapter=adapter,
        prompt_tokens=0,
        cached_tokens=0,
        completion_tokens=0,
        finish=CANCELLED,
        started_ms=now_ms,
        first_token_ms=None,
        finished_ms=now_ms,
        replica=replica,
    )
    return Opening(UUID(request_id), record, msgspec.json.encode(record))


class Recorder:
    """What the spool hears of a request. A step other than `open` says nothing when there is nothing open."""

    __slots__ = ("_id", "_metering", "_prompt_tokens", "_record")

    def __init__(self, metering: Metering) -> None:
        self._metering = metering
        self._record: UsageRecord | None = None
        self._id = UUID(int=0)
        self._prompt_tokens = 0

    @property
    def is_open(self) -> bool:
        return self._record is not None

    def open(self, opened: Opening) -> None:
        """An engine is about to get the request, the same one again or another. Errors: 503 `spool_full`."""
        self._id = opened.id
        self._metering.begin(opened.id, opened.data)
        self._record = opened.record
        crash_point("spool.opened")

    def first(self, prompt_tokens: int, *, written_ms: int = 0) -> None:
        """The first bytes are there. Engines say with a stream's how long its prompt is, with a whole answer's how long
        before them its first token came.
        """
        if self._record is None:
            return
        self._record.first_token_ms = max(self._record.started_ms, _now_ms() - written_ms)
        self._prompt_tokens = prompt_tokens
        if prompt_tokens:
            self.checkpoint(0)

    def checkpoint(self, made_tokens: int) -> None:
        """So many tokens are made: what is billed if neither we nor the engine live to say more."""
        if self._record is None:
            return
        self._record.completion_tokens = made_tokens
        self._record.prompt_tokens = self._prompt_tokens
        told = Checkpoint(self._prompt_tokens, made_tokens, _now_ms())
        self._metering.note(Kind.CHECKPOINT, self._id, msgspec.json.encode(told))
        crash_point("spool.checkpointed")

    def close(self, usage: Usage, finish: str) -> None:
        """The engine has counted."""
        if self._record is None:
            return
        self._record.prompt_tokens = usage.prompt_tokens
        self._record.cached_tokens = usage.cached_tokens
        self._record.completion_tokens = usage.completion_tokens
        self._record.reasoning_tokens = usage.reasoning_tokens
        self._end(Kind.CLOSED, finish)

    def cut(self) -> None:
        """It was ended before the engine had counted: its log knows, and failing that the last checkpoint."""
        self._end(Kind.CUT, CANCELLED)

    def void(self) -> None:
        """We have failed: whatever the engine has made or logged, this is free."""
        self._end(Kind.VOID, FAILED)
        crash_point("spool.voided")

    def drop(self) -> None:
        """No engine has seen it, or one has refused it."""
        self._end(Kind.DROPPED, FAILED)

    def _end(self, kind: Kind, finish: str) -> None:
        record, self._record = self._record, None
        if record is None:
            return
        record.finish, record.finished_ms = finish, _now_ms()
        data = b"" if kind is Kind.DROPPED else msgspec.json.encode(record)
        self._metering.note(kind, self._id, data)
        crash_point("spool.closed")


def request_void(metering: Metering, request_id: UUID, context: str) -> None:
    """A request that another process has left behind is free, whatever it says or has said itself."""
    now_ms = _now_ms()
    record = UsageRecord(
        request_id=str(request_id),
        context=context,
        tenant="",
        adapter="",
        prompt_tokens=0,
        cached_tokens=0,
        completion_tokens=0,
        finish=FAILED,
        started_ms=now_ms,
        first_token_ms=None,
        finished_ms=now_ms,
        replica="",
    )
    metering.note(Kind.VOID, request_id, msgspec.json.encode(record))


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
