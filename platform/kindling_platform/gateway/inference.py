"""One inference from admission to settlement: hold, dispatch, relay, close."""

import asyncio
from contextlib import suppress
from time import monotonic

from kindling_platform.common.crash_points import crash_point
from kindling_platform.common.ids import uuid7_text
from kindling_platform.gateway.admission import GRANT_TOKENS, SHORTAGES, Admission, Usage
from kindling_platform.gateway.affinity import affinity_key
from kindling_platform.gateway.ask import Ask, Spare
from kindling_platform.gateway.auth import Caller, Keys
from kindling_platform.gateway.catalog import Model, price_of
from kindling_platform.gateway.engine_replies import (
    is_retried,
    passed_headers,
    prompt_tokens,
    refusal_of,
    written_ms,
)
from kindling_platform.gateway.errand import Errand, errand_make
from kindling_platform.gateway.errors import ClientGoneError, GatewayError, upstream_failed
from kindling_platform.gateway.events import EventFilter, usage_of_body
from kindling_platform.gateway.limits.caps import caps_take
from kindling_platform.gateway.limits.deadline import (
    DEADLINE_EXCEEDED,
    LENGTH,
    LIMITED_BY,
    Deadline,
    deadline_exceeded,
)
from kindling_platform.gateway.names import ModelName
from kindling_platform.gateway.quiet_grants import FIRST_LOOK_S, QuietGrants
from kindling_platform.gateway.request import Headers, Request
from kindling_platform.gateway.routing import Replica, Router
from kindling_platform.gateway.spool.metering import Metering
from kindling_platform.gateway.spool.recorder import Recorder
from kindling_platform.gateway.traces import part
from kindling_platform.gateway.upstream import Engines
from kindling_platform.gateway.wallets import Wallets
from kindling_platform.gateway.watch import Watch
from kindling_platform.gateway.wire.line import CutError, Line, NotSentError

EXTEND_WITHIN_TOKENS = 64
STOP_TRIES, STOP_PAUSE_S = 20, 0.05
# Who pays the price of batch work comes behind all others, and an engine says nothing of a whole answer before its end.
BATCH_SILENCE_S = 4 * 3600.0
STREAM_HEADERS: Headers = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),
]


class Inference:
    """The state of one request on its way; `close` has to be called at its end, however that came."""

    def __init__(
        self,
        *,
        request: Request,
        caller: Caller,
        model: Model,
        name: ModelName,
        ask: Ask,
        body: bytes,
        keys: Keys,
        router: Router,
        engines: Engines,
        wallets: Wallets,
        metering: Metering,
        generates: bool = True,
        spare: Spare | None = None,
    ) -> None:
        self._request = request
        self._caller = caller
        self._model = model
        self._name = name
        self._ask = ask
        self._caps, self._body = caps_take(request.headers, body)
        self._spare = spare
        self._keys = keys
        self._router = router
        self._engines = engines
        self._recorder = Recorder(metering)
        self._admission = Admission(
            wallets,
            caller=caller,
            keys=keys,
            request_id=request.id,
            ask=ask,
            price=price_of(model, caller),
            context_length=model.context_length,
            generates=generates,
            caps=self._caps,
        )
        self._deadline = Deadline(self._caps.deadline_ms, request.started_at)
        self._errand: Errand | None = None
        self._replica: Replica | None = None
        self._reply: Line | None = None
        self._extension: asyncio.Task[bool] | None = None
        self._quiet: QuietGrants | None = None
        self._stopping: asyncio.Task[None] | None = None
        self._events = EventFilter(
            keep_usage=ask.include_usage, limited_by=self._admission.limit, documented=request.documented
        )
        self._free = True
        self._has_told_limits = False

    async def run(self, path: str, watch: Watch) -> None:
        """Answer the request; `path` is the engine's."""
        try:
            await self._run(path, watch)
        except BaseException as error:
            self._tell_limits()
            # No name of its own for the cause: a frame that an error has passed would keep that error.
            cause_is_ours = is_ours(watch.error if isinstance(error, asyncio.CancelledError) else error)
            self._free = self._free or (cause_is_ours and not self._request.is_kept)
            raise

    def close(self) -> None:
        """Give everything back: the connection, the replica's place, the hold."""
        self._deadline.stop()
        for task in (self._extension, self._stopping):
            if task:
                task.cancel()
        self._leave()
        with part(self._request.trace, "settle"):
            self._end(self._events.usage, free=self._free or self._events.failed)

    def _end(self, usage: Usage | None, *, free: bool) -> None:
        if free:
            self._recorder.void()
        elif usage is not None:
            self._recorder.close(usage, self._finish())
        else:
            self._recorder.cut()
        if self._admission.touched:
            self._settle(usage, free=free)

    def _settle(self, usage: Usage | None, *, free: bool) -> None:
        if free:
            self._admission.release()
        elif usage is None:
            self._admission.settle_unknown()
        else:
            self._admission.settle(usage)
            self._request.facts |= {
                "prompt_tokens": usage.prompt_tokens,
                "cached_tokens": usage.cached_tokens,
                "completion_tokens": usage.completion_tokens,
            }

    def _finish(self) -> str:
        if not self._events.length:
            return "stop"
        return "grant_refused" if self._admission.limited_by in SHORTAGES else "length"

    async def _run(self, path: str, watch: Watch) -> None:
        self._deadline.start(lambda: self._cut(watch))
        until = self._router.deadline()
        replica = await self._pick(until)
        # Its turn comes while Valkey decides.
        asyncio.get_running_loop().call_soon(self._make_ready, replica)
        with part(self._request.trace, "admission"):
            await self._admission.admit(first_tokens=GRANT_TOKENS)
        first = await self._dispatch(path, replica, until)
        if self._spare and self._reply and (body := self._spare(self._reply.status, first, self._body)):
            self._recorder.drop()
            self._free, self._body = True, body
            first = await self._dispatch(path, self._replica or replica, until)
        if self._reply is None:
            raise upstream_failed()
        if self._reply.status != 200:
            await self._relay_refusal(self._reply, first, watch)
        elif self._reply.is_event_stream:
            await self._relay_stream(self._reply, first, watch)
        else:
            await self._relay_whole(self._reply, first, watch)

    async def _pick(self, until: float) -> Replica:
        return await self._router.pick(
            self._caller,
            self._model,
            self._name,
            self._ask.model,
            until,
            affinity=affinity_key(self._request.headers, self._body),
        )

    def _make_ready(self, replica: Replica) -> None:
        with suppress(NotSentError):  # it is found again when it is sent
            self._errand = self._errand_to(replica)

    def _errand_to(self, replica: Replica) -> Errand:
        return errand_make(
            self._request.id, self._request.headers, caller=self._caller, model=self._model, replica=replica
        )

    async def _dispatch(self, path: str, replica: Replica, until: float) -> bytes:
        """Send the request until a replica answers; returns the first bytes of its reply.

        Whoever refuses the connection has seen nothing, so trying goes on until the deadline. A connection
        that breaks before its first byte gets one more try, under a new id: the first one may be logged.
        """
        tries_left = 1
        while True:
            try:
                return await self._send(path, replica)
            except NotSentError:
                self._free = True
                self._recorder.drop()
            except CutError:
                self._leave()
                self._free = True
                self._recorder.void()
                if not tries_left:
                    raise upstream_failed() from None
                tries_left -= 1
                until = self._router.deadline()
                await self._take_new_id()
            self._router.suspect(replica)
            replica = await self._pick(until)

    async def _send(self, path: str, replica: Replica) -> bytes:
        self._leave()
        errand, self._errand = self._errand, None
        if errand is None or errand.replica is not replica or errand.request_id != self._request.id:
            errand = self._errand_to(replica)
        self._request.facts |= {"replica": replica.name}
        headers = self._request.trace.sent(replica.name) if self._request.trace else {}
        if self._admission.granted > 0:
            headers["x-kindling-grant"] = str(self._admission.granted)
        # Before it is sent: an engine that has logged what we have not heard of could not be checked.
        self._recorder.open(errand.opening)
        self._replica = replica
        self._router.enter(replica)
        self._free = False
        sent_at = monotonic()
        if not self._ask.stream and self._admission.granted < self._admission.wanted:
            self._quiet = self._quiet_grants(replica)
        reply = await self._engines.post(
            replica, path, headers, self._body, ready=errand.lines, sent=self._tell_limits,
            silence_s=BATCH_SILENCE_S if self._caller.batch else None,
        )  # fmt: skip
        self._reply = reply
        crash_point("dispatch.sent")
        if reply.status == 200 and reply.is_event_stream:
            first = await reply.part()
        else:
            first = await reply.whole()
        if not first or is_retried(reply.status, first):
            raise CutError
        self._router.trust(replica)
        if self._request.trace:
            self._request.trace.heard()
        self._request.facts["upstream_ms"] = round((monotonic() - sent_at) * 1000, 1)
        self._recorder.first(prompt_tokens(reply), written_ms=written_ms(reply))
        self._request.facts["first_byte_ms"] = round((monotonic() - self._request.started_at) * 1000, 1)
        return first

    def _tell_limits(self) -> None:
        """Work out what an answer says of limits, while its engine works."""
        if self._admission.is_admitted and not self._has_told_limits:
            self._has_told_limits = True
            self._request.extra_headers += self._admission.headers()

    async def _take_new_id(self) -> None:
        self._request.facts["first_request_id"] = self._request.id
        self._request.id = uuid7_text()
        await self._admission.move(self._request.id)
        if self._request.on_new_id:
            await self._request.on_new_id()
        crash_point("retry.moved")

    def _quiet_grants(self, replica: Replica) -> QuietGrants:
        # Several answers share a grant, and each may soon be at the end of its part.
        first_look_s = FIRST_LOOK_S if self._ask.answers == 1 else 0.0
        return QuietGrants(
            self._engines, replica, self._request.id, extend=self._extend_grant, first_look_s=first_look_s
        )

    def _leave(self) -> None:
        if self._quiet:
            self._quiet.stop()
            self._quiet = None
        if self._replica:
            self._router.leave(self._replica)
            self._replica = None
        if self._reply:
            self._reply.close()
            self._reply = None
        if self._request.trace:
            self._request.trace.left()

    async def _relay_refusal(self, reply: Line, body: bytes, watch: Watch) -> None:
        self._free = True
        watch.stop()
        if reply.status < 500:
            self._recorder.drop()
            await self._request.reply(reply.status, body, passed_headers(reply))
            return
        raise refusal_of(reply, body)

    async def _relay_whole(self, reply: Line, body: bytes, watch: Watch) -> None:
        self._events.usage = usage_of_body(body)
        self._events.length = LENGTH in body
        watch.stop()
        crash_point("relay.last")
        if self._admission.limited_by and self._events.length:
            self._request.extra_headers.append((LIMITED_BY, self._admission.limited_by.encode()))
        await self._request.reply(200, body, passed_headers(reply))

    async def _relay_stream(self, reply: Line, first: bytes, watch: Watch) -> None:
        request, events = self._request, self._events
        await request.start(200, [*STREAM_HEADERS, *passed_headers(reply)])
        part, read = first, reply.part
        try:
            while part:
                if out := events.feed(part):
                    await request.write(out)
                    crash_point("relay.first")
                if events.made is not None:
                    self._extend()
                part = await read()
        except CutError:
            self._free = True
        if not events.done and not events.failed:
            self._free = True
            raise upstream_failed()
        watch.stop()
        crash_point("relay.last")
        await request.end()

    def _cut(self, watch: Watch) -> None:
        """The request's own deadline is over: the engine ends the answer where it is, if it has begun one."""
        self._admission.cut()
        if self._replica is None:
            watch.cut(deadline_exceeded())
        else:
            self._stopping = asyncio.create_task(self._stop(self._replica, watch))

    async def _stop(self, replica: Replica, watch: Watch) -> None:
        # An engine that has just got the request may not know it yet, and one that has answered knows it no more.
        for _ in range(STOP_TRIES):
            if await self._engines.stop(replica, self._request.id) or self._reply is not None:
                return
            await asyncio.sleep(STOP_PAUSE_S)
        watch.cut(deadline_exceeded())

    def _extend(self) -> None:
        made, self._events.made = self._events.made or 0, None
        if self._ask.answers == 1:  # of several answers, tokens that were handed out count as made
            self._recorder.checkpoint(made)
        running = self._extension is not None and not self._extension.done()
        if not running and made + EXTEND_WITHIN_TOKENS >= self._admission.granted:
            self._extension = asyncio.create_task(self._extend_grant())

    async def _extend_grant(self) -> bool:
        replica = self._replica
        try:
            if replica and await self._keys.recheck(self._caller) and await self._admission.extend():
                return await self._engines.grant(replica, self._request.id, self._admission.granted)
        except (GatewayError, ClientGoneError, NotSentError):
            pass  # the engine ends the request at the grant that it has
        return False


def is_ours(error: BaseException | None) -> bool:
    """Whether what ended a request is a failure of the platform: then it is free, whatever the engine has made."""
    if isinstance(error, GatewayError):
        return error.status >= 500 and error.code != DEADLINE_EXCEEDED
    return not isinstance(error, ClientGoneError)
