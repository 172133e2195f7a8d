"""One batch at work in this process, from wherever it stands: checked, run line by line, and ended."""

import asyncio
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from http import HTTPStatus
from time import monotonic

from kindling_platform.batches.seal import Seal
from kindling_platform.common.crash_points import crash_point
from kindling_platform.common.org_seal import SealBrokenError, SealedTooLongError
from kindling_platform.gateway.access_log import Log
from kindling_platform.gateway.auth import Caller, Keys
from kindling_platform.gateway.database import DatabaseUnavailableError
from kindling_platform.gateway.errors import GatewayError
from kindling_platform.gateway.routes import POST_PATHS, Action
from kindling_platform.gateway.surface.batches.call import FATAL, MONEY_S, ROOM_S, WAITS, Answer, Serve, call
from kindling_platform.gateway.surface.batches.lines import (
    Checker,
    Line,
    LineError,
    LineTooLongError,
    body_read,
    line_read,
    lines_split,
    too_long,
)
from kindling_platform.gateway.surface.batches.objects import answer_line
from kindling_platform.gateway.surface.batches.output import Output
from kindling_platform.gateway.surface.batches.store import Batch, LeaseLostError, WorkStore
from kindling_platform.gateway.surface.files.store import FileStore

LINES_AT_ONCE = 64
RENEWALS_PER_LEASE = 4
# Of lines on their way to a thread, and of bodies that are at work.
CHECKED_BYTES = 1024 * 1024
MOST_BYTES = 64 * 1024 * 1024
ANSWER_BYTES = 8 * 1024
# Of all answers of a batch, as they are stored.
MOST_STORED_BYTES = 4 * 1024**3
# After so long others may be due.
SLICE_S = 300.0


class Job:
    """A batch whose lease is ours. `run` ends with the batch over, parked, or given up for others to go on with."""

    def __init__(
        self, batch: Batch, *, work: WorkStore, files: FileStore, seal: Seal, keys: Keys, serve: Serve,
        turns: asyncio.Semaphore, log: Log,
    ) -> None:  # fmt: skip
        self._batch = batch
        self._work = work
        self._files = files
        self._seal = seal
        self._keys = keys
        self._serve = serve
        self._turns = turns
        self._log = log
        self._lines: set[asyncio.Task[None]] = set()
        self.parked_s: float | None = None
        self._held_bytes = 0
        self._total = batch.total
        self._made = 0
        # Until it is others' turn.
        self._until = monotonic() + SLICE_S
        self._wait: tuple[str, float] | None = None
        # Models whose lines have to wait, with the code of what for.
        self._resting: dict[str, tuple[str, float]] = {}
        self._fatal: LineError | None = None
        self._cancelled = batch.status == "cancelling"
        self._lost = False

    async def run(self) -> None:
        """Work until nothing is left to do, or until the batch has to wait.

        Raises:
            DatabaseUnavailableError, GatewayError: its lease runs out, and whoever claims it then goes on.
        """
        renewing = asyncio.create_task(self._renew())
        try:
            with suppress(LeaseLostError):
                await self._run_or_fail()
        finally:
            renewing.cancel()
            for line in self._lines:
                line.cancel()
            await asyncio.gather(*self._lines, return_exceptions=True)

    async def _run_or_fail(self) -> None:
        try:
            await self._run()
        except GatewayError as error:
            if error.code != "file_not_found":
                raise
            await self._fail(LineError(error.code, error.message))
        except (SealBrokenError, SealedTooLongError):
            await self._fail(LineError("file_sealed", "The installation's secret was changed meanwhile."))

    async def _fail(self, error: LineError) -> None:
        """End it without files: what they would be made of can no longer be read."""
        await self._work.end(self._batch, "failed", errors=[error.told()])

    def cancel(self) -> None:
        """Begin no further line: the batch ends with what it has."""
        self._cancelled = True

    async def _run(self) -> None:
        batch = self._batch
        if batch.status == "validating" and not self._stops and not await self._check():
            return
        if not self._stops:
            await self._run_lines()
        self._alive()
        done = len(await self._work.done(batch))
        if status := self._status(done):
            await self._end(status)
        else:
            code, seconds = self._wait or next(iter(self._resting.values()), ("", ROOM_S))
            if self._made and code in WAITS:
                seconds = ROOM_S  # what the last ones have not used may do for others
            await self._work.park(batch, waits_for=code, wait_s=seconds)
            self.parked_s = seconds

    def _status(self, done: int) -> str:
        """How the batch ends; "" when it does not yet."""
        if self._cancelled:
            return "cancelled"
        if self._total and done >= self._total:
            return "completed"
        if self._fatal:
            return "failed"
        return "expired" if self._over else ""

    async def _check(self) -> bool:
        """Look at every line; whether the batch goes on."""
        checker, seen, size = Checker(self._batch.endpoint), [], 0
        try:
            file = await self._files.get(self._batch.organisation_id, self._batch.input_file_id)
            async for line in lines_split(self._files.read(file)):
                self._alive()
                seen.append(line)
                size += len(line[1])
                if size > CHECKED_BYTES:
                    await asyncio.to_thread(_take, checker, seen)
                    seen, size = [], 0
                if checker.is_full:
                    break
            await asyncio.to_thread(_take, checker, seen)
            checker.end()
        except LineTooLongError as error:
            checker.errors.append(too_long(error.number))
        if self._cancelled:
            return True
        if checker.errors:
            await self._work.end(self._batch, "failed", errors=[error.told() for error in checker.errors])
            return False
        if await self._work.begin(self._batch, total=checker.total, model=checker.model):
            self._total = checker.total
        else:
            self._cancelled = True
        return True

    async def _caller(self) -> Caller | None:
        """Who asks, as of a second ago. None when they may not: for now, or for good."""
        try:
            return await self._keys.batch_caller(self._batch.key_digest)
        except GatewayError as error:
            if error.code in FATAL:
                self._fatal = LineError(error.code, error.message)
            else:
                self._wait = (error.code, WAITS.get(error.code, ROOM_S))
            return None

    async def _run_lines(self) -> None:
        done = await self._work.done(self._batch)
        file = await self._files.get(self._batch.organisation_id, self._batch.input_file_id)
        action = POST_PATHS[self._batch.endpoint.removeprefix("/v1/")]
        try:
            async for number, text in lines_split(self._files.read(file)):
                if number not in done and not await self._begin_line(action, number, text):
                    break
        except GatewayError as error:
            if error.status < HTTPStatus.INTERNAL_SERVER_ERROR:
                raise
            self._wait = self._wait or (error.code, ROOM_S)  # what runs is worth its end
        if self._lines:
            await asyncio.wait(self._lines)

    async def _begin_line(self, action: Action, number: int, text: bytes) -> bool:
        """Begin a line once there is room for it; False when none is begun any more."""
        while len(self._lines) >= LINES_AT_ONCE or (self._lines and self._held_bytes > MOST_BYTES):
            await asyncio.wait(self._lines, return_when=asyncio.FIRST_COMPLETED)
        if self._stops:
            return False
        line = line_read(text)
        body = body_read(line)
        if body.name in self._resting:
            return True
        # An answer with vectors is far longer than what it was asked with.
        size = len(text) + ANSWER_BYTES * max(bytes(body.input).count(b","), 1)
        task = asyncio.create_task(self._run_line(action, number, line, body.name))
        self._held_bytes += size
        self._lines.add(task)
        task.add_done_callback(partial(self._line_ended, size))
        return True

    async def _run_line(self, action: Action, number: int, line: Line, model: str) -> None:
        batch = self._batch
        async with self._turns:
            caller = None if self._stops or model in self._resting else await self._caller()
            if caller is None:
                return
            key = f"{batch.id}:{number}"
            answer = await call(
                self._serve, caller, action, path=batch.endpoint, key=key, body=bytes(line.body)
            )
        if self._holds_up(answer, model):
            return
        told = answer_line(
            line.custom_id, status=answer.status, request_id=answer.request_id, body=answer.body
        )
        sealed = await asyncio.to_thread(
            self._seal.close, told, org_id=batch.organisation_id, owner=batch.id, number=number
        )
        crash_point("batch.answered")
        stored = await self._work.put(batch, number, sealed, failed=answer.failed, usage=answer.usage)
        crash_point("batch.put")
        self._made += 1
        if stored > MOST_STORED_BYTES:
            most = MOST_STORED_BYTES // 1024**3
            self._fatal = LineError(
                "files_full", f"The answers of this batch have more than {most} GiB. Split it."
            )

    def _holds_up(self, answer: Answer, model: str) -> bool:
        """Whether an answer is none, but says that the batch has to wait, or to end; or all lines of one model."""
        if answer.code in FATAL:
            self._fatal = self._fatal or LineError(
                answer.code, "The API key that made this batch is no longer good."
            )
            return True
        if answer.runs_elsewhere:
            return True  # in a process that has died, or will tell: the others go on, and this one is asked again
        if answer.wait_s and answer.is_of_its_model:
            self._resting[model] = (answer.code, answer.wait_s)
            return True
        if answer.wait_s:
            self._wait = self._wait or (answer.code, answer.wait_s)
            return True
        return False

    def _line_ended(self, size: int, line: "asyncio.Task[None]") -> None:
        self._lines.discard(line)
        self._held_bytes -= size
        error = None if line.cancelled() else line.exception()
        if isinstance(error, DatabaseUnavailableError):
            # Its result could not be written: the batch is tried again from where it stands.
            self._wait = self._wait or ("database_unavailable", ROOM_S)
        elif error is not None:
            self._log.error("batch_line_failed", batch=self._batch.id, exc_info=error)
            self._wait = self._wait or ("internal_error", MONEY_S)

    async def _end(self, status: str) -> None:
        if await self._work.finalize(self._batch) == "cancelling":
            status = "cancelled"
        made = wrong = ""
        if self._total:  # else nobody has looked at its lines
            output = Output(self._files, self._work, self._seal, self._batch)
            made, wrong = await output.write(status, self._alive)
        crash_point("batch.written")
        errors = [self._fatal.told()] if self._fatal and status == "failed" else None
        await self._work.end(self._batch, status, output=made, error=wrong, errors=errors)

    @property
    def _over(self) -> bool:
        """Whether the batch's day is over."""
        return datetime.now(UTC) >= self._batch.expires_at

    @property
    def _stops(self) -> bool:
        """Whether no further line is begun."""
        stops = bool(self._wait or self._fatal) or self._cancelled or self._lost or self._over
        if not stops and monotonic() > self._until:
            self._wait, stops = ("", 0.0), True
        return stops

    def _alive(self) -> None:
        if self._lost:
            raise LeaseLostError

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(self._work.lease_s / RENEWALS_PER_LEASE)
            try:
                status = await self._work.renew(self._batch)
            except LeaseLostError:
                self._lost = True
                for line in self._lines:
                    line.cancel()
                return
            except DatabaseUnavailableError:
                continue  # the next renewal may be in time
            self._cancelled = self._cancelled or status == "cancelling"


def _take(checker: Checker, lines: list[tuple[int, bytes]]) -> None:
    for number, text in lines:
        checker.take(number, text)
