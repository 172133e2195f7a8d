"""One request between its start in the core and its usage record."""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from kindling_engine.protocol.headers import EngineHeaders
from kindling_engine.protocol.ipc import StepItem, Submit
from kindling_engine.protocol.usage_log import UsageLogError, UsageRecord
from kindling_engine.server.core_link import CoreLink, CoreTicket
from kindling_engine.server.errors import ApiError, core_error
from kindling_engine.server.output_text import OutputText, TokenEntry
from kindling_engine.server.usage import UsageBook, now_ms

# How far ahead of the grant's end more is asked for.
GRANT_AHEAD_TOKENS = 64

Spawn = Callable[[Coroutine[Any, Any, None]], object]


@dataclass(frozen=True, slots=True)
class Piece:
    """Text that may be shown. ``finish`` is stop, length or grant_refused in the last piece, else empty."""

    text: str
    entries: list[TokenEntry]
    finish: str = ""


class Generation:
    """Feeds a request's tokens into text, and writes exactly one usage record however it ends.

    The record is written before `advance` returns the last piece or raises. Whoever stops calling `advance` early
    calls `close`, which cancels in the core and records what was made.
    """

    def __init__(
        self,
        *,
        core: CoreLink,
        book: UsageBook,
        headers: EngineHeaders,
        submit: Submit,
        output: OutputText,
        eos_ids: frozenset[int],
        spawn: Spawn,
    ) -> None:
        self.id = submit.id
        self.started_ms = now_ms()
        self.prompt_tokens = len(submit.prompt_ids)
        self.cached_tokens = 0
        self.completion_tokens = 0
        self.grant = submit.grant
        self._max_tokens = submit.max_tokens
        self._noticed_grant = 0
        self._first_token_ms: int | None = None
        self._ended = False
        self._core = core
        self._book = book
        self._headers = headers
        self._output = output
        self._eos_ids = eos_ids
        self._spawn = spawn
        self._ticket: CoreTicket = core.submit(submit)

    async def advance(self) -> Piece:
        """The next piece, as soon as the core has made a step. Errors: whatever ended the request."""
        for item in await self._ticket.take():
            finish = self._accept(item)
            if finish:
                text, entries = self._output.take()
                self._record(finish)
                return Piece(text, entries, finish)
        return Piece(*self._output.take())

    def extend(self, tokens: int) -> int:
        """Raise the grant to a new total, never lower it; returns the total that holds now."""
        if tokens > self.grant:
            self.grant = tokens
            self._core.grant(self.id, tokens)
        return self.grant

    def take_notice(self) -> int | None:
        """The tokens made so far, once per grant, when its end is near and more could be made."""
        if (
            self._noticed_grant == self.grant
            or self._max_tokens <= self.grant
            or self.completion_tokens < self.grant - GRANT_AHEAD_TOKENS
        ):
            return None
        self._noticed_grant = self.grant
        return self.completion_tokens

    def close(self) -> None:
        """End a request that nobody waits for any more; does nothing after its end."""
        if not self._ended:
            self._core.cancel(self.id)
            self._spawn(self._settle("cancelled"))

    def abort(self) -> None:
        """End a request because we have to stop: that is a failure of ours, and `advance` raises it."""
        self._core.cancel(self.id)

    async def _settle(self, finish: str) -> None:
        """Wait for the core's last word, so that the record counts every token that was made."""
        while not self._ended:
            for item in await self._ticket.take():
                self._count(item)
                if item.finish:
                    self._record("error" if item.finish == "error" else finish)
                    return

    def _accept(self, item: StepItem) -> str:
        """Take one item in; returns the request's finish when this ends it."""
        self._count(item, tokens=False)
        for index, token_id in enumerate(item.token_ids):
            self._count_token()
            last = index == len(item.token_ids) - 1
            if last and item.finish == "stop" and token_id in self._eos_ids:
                continue
            logprobs = item.logprobs[index] if item.logprobs else None
            if self._output.accept(token_id, logprobs):
                if not item.finish:
                    self._core.cancel(self.id)
                    self._core.forget(self.id)
                return "stop"
        if not item.finish:
            return ""
        if item.finish == "error":
            self._fail(core_error(item.error_code, item.error))
        if item.finish == "cancelled":
            # Nobody but us cancels, and a reader is still here: the server is going down.
            self._fail(ApiError(503, "engine_unavailable", "The engine is shutting down.", retry_after_s=2))
        return "stop" if self._output.end() else item.finish

    def _count(self, item: StepItem, *, tokens: bool = True) -> None:
        self.prompt_tokens = item.prompt_tokens or self.prompt_tokens
        self.cached_tokens = max(self.cached_tokens, item.cached_tokens)
        if tokens:
            for _ in item.token_ids:
                self._count_token()

    def _count_token(self) -> None:
        self.completion_tokens += 1
        if self._first_token_ms is None:
            self._first_token_ms = now_ms()

    def _fail(self, error: ApiError) -> None:
        self._record("error")
        raise error

    def _record(self, finish: str) -> None:
        """Write the record. A record that cannot be written is a failure of ours, so the caller gets no answer."""
        if self._ended:
            return
        self._ended = True
        record = UsageRecord(
            request_id=self.id,
            context=self._headers.context,
            tenant=self._headers.tenant,
            adapter=self._headers.adapter,
            prompt_tokens=self.prompt_tokens,
            cached_tokens=self.cached_tokens,
            completion_tokens=self.completion_tokens,
            finish=finish,
            started_ms=self.started_ms,
            first_token_ms=self._first_token_ms,
            finished_ms=now_ms(),
            replica=self._book.replica,
        )
        try:
            self._book.append(record)
        except UsageLogError as error:
            raise ApiError(500, "usage_not_recorded", "The engine could not record this request.") from error


class TaskSet:
    """Tasks that outlive the request that started them."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def wait(self, within_s: float) -> None:
        """Let them finish."""
        if self._tasks:
            await asyncio.wait(set(self._tasks), timeout=within_s)
