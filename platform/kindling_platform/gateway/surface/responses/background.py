"""Responses that are made while nobody waits: begun here, kept from their first moment, read and cancelled by their id.

A job runs in the process that took it. Its row has a lease: when the process dies, the lease ends and the response
counts as failed; what an engine had made by then is settled by the spool, like that of any request.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

import orjson

from kindling_platform.gateway.access_log import Log
from kindling_platform.gateway.auth import Caller
from kindling_platform.gateway.database import DatabaseUnavailableError
from kindling_platform.gateway.errors import ClientGoneError, GatewayError, books_unavailable
from kindling_platform.gateway.request import Message
from kindling_platform.gateway.surface.form import error_of
from kindling_platform.gateway.surface.responses.output import Response, response_fail
from kindling_platform.gateway.surface.responses.reply import ResponseForm
from kindling_platform.gateway.surface.responses.store import ResponseStore
from kindling_platform.gateway.surface.shaped import ShapedRequest
from kindling_platform.gateway.to_the_end import to_the_end

AT_ONCE = 64
MOST_JOBS = 1_000
RENEW_EVERY_S = 2.0
LAST_WORDS_S = 1.0
TRIES, RETRY_S = 3, 1.0
Work = Callable[[ShapedRequest], Awaitable[None]]


class JobRequest(ShapedRequest):
    """A request whose connection is nobody's: whoever has asked for it may hang up."""

    __slots__ = ()

    def on_gone(self, callback: Callable[[], None] | None) -> bool:
        return False


class Job:
    """One response on its way: a request of its own, whose client is whoever may still cancel it."""

    __slots__ = ("_gone", "caller", "form", "request", "response")

    def __init__(self, asked: ShapedRequest, caller: Caller, form: ResponseForm, response: Response) -> None:
        self.caller = caller
        self.form = form
        self.response = response
        self._gone = asyncio.Event()
        self.request = JobRequest(asked.scope, self._receive, _send_nowhere, form)
        self.request.id = asked.id
        self.request.facts = asked.facts | {"background": True}

    @property
    def id(self) -> str:
        return str(self.response["id"])

    def leave(self) -> None:
        """Nobody wants it any more: it ends like a request whose client has hung up."""
        self._gone.set()

    async def _receive(self) -> Message:
        await self._gone.wait()
        return {"type": "http.disconnect"}


class Background:
    """The jobs of this process; `ended` is told of each one's request at its end."""

    def __init__(
        self,
        store: ResponseStore,
        log: Log,
        *,
        ended: Callable[[ShapedRequest], None],
        renew_every_s: float = RENEW_EVERY_S,
    ) -> None:
        self._store = store
        self._log = log
        self._ended = ended
        self._renew_every_s = renew_every_s
        self._turns = asyncio.Semaphore(AT_ONCE)
        self._jobs: dict[str, Job] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def close(self) -> None:
        """End what still waits for its turn, and let every job say its last words."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=LAST_WORDS_S)

    async def begin(self, request: ShapedRequest, caller: Caller, form: ResponseForm, work: Work) -> None:
        """Keep a response as queued, answer with it, and have `work` make it.

        Raises:
            GatewayError: 400 `unsupported_field` where nothing is kept, 403 `key_required` for a client token, 503.
        """
        if len(self._jobs) >= MOST_JOBS:
            message = "Too many responses wait to be made in the background. Try again in a few seconds."
            raise GatewayError(503, "overloaded", message, headers={"retry-after": "5"})
        response = form.queue(request.id)
        await self._store.open(caller, response, form.items)
        job = Job(request, caller, form, response)
        job.request.keep = lambda: self._keep(job)
        job.request.before_reply = lambda status, body, _: self._note_refusal(job, status, body)
        request.form = request.keep = None
        request.body_move(job.request)
        self._jobs[job.id] = job
        task = asyncio.create_task(self._run(job, work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        await request.reply(200, orjson.dumps(response))

    def leave(self, response_id: str) -> None:
        """A response was cancelled or deleted; another process notices at its next renewal."""
        if job := self._jobs.get(response_id):
            job.leave()

    async def _run(self, job: Job, work: Work) -> None:
        renewing = asyncio.create_task(self._renew(job))
        try:
            async with self._turns:
                job.response = job.response | {"status": "in_progress"}
                if await self._store.move(job.caller, job.response, ends=False):
                    await work(job.request)
        except ClientGoneError:
            job.request.facts["outcome"] = "cancelled"
        except GatewayError as error:
            await self._fail(job, error.code, error.message)
        except asyncio.CancelledError:
            await self._fail(
                job, "server_shutdown", "The platform was shut down before it came to this response."
            )
            raise
        except Exception as error:
            self._log.error("unexpected_error", request_id=job.request.id, exc_info=error)
            await self._fail(job, "internal_error", "Something went wrong on our side.")
        finally:
            renewing.cancel()
            job.request.forget()
            self._jobs.pop(job.id, None)
            self._ended(job.request)

    async def _renew(self, job: Job) -> None:
        while True:
            await asyncio.sleep(self._renew_every_s)
            with suppress(DatabaseUnavailableError):
                if not await self._store.renew(job.id):
                    job.leave()

    async def _keep(self, job: Job) -> None:
        """Keep what was made, or fail: what reaches nobody is free."""
        if job.form.result is not None:
            await to_the_end(self._keep_result(job, job.form.result))

    async def _keep_result(self, job: Job, result: Response) -> None:
        if not await self._end(job, result):
            raise books_unavailable()
        job.request.is_kept = True

    async def _note_refusal(self, job: Job, status: int, body: bytes) -> None:
        """What the engine has refused reaches nobody but the kept response."""
        if status != 200:
            error = error_of(body)
            await self._fail(job, str(error.get("code") or "server_error"), str(error.get("message", "")))

    async def _fail(self, job: Job, code: str, message: str) -> None:
        job.request.facts["outcome"] = code
        await self._end(job, response_fail(job.response, code=code, message=message))

    async def _end(self, job: Job, response: Response) -> bool:
        """Whether the row says so now, or has ended before."""
        for left in reversed(range(TRIES)):
            try:
                await self._store.move(job.caller, response, ends=True)
            except GatewayError:
                if left:
                    await asyncio.sleep(RETRY_S)
            else:
                return True
        # Its lease ends, and it is then read as failed.
        self._log.warning("background_response_not_kept", request_id=job.request.id)
        return False


async def _send_nowhere(_message: Message) -> None:
    return
