"""The front's end of the Unix socket: requests by id, the core's steps to whom they belong."""

import asyncio
import logging
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from kindling_engine.protocol.ipc import (
    AdapterChanged,
    AdapterList,
    AdapterLoaded,
    AdapterState,
    Cancel,
    CoreFailed,
    CoreLoading,
    CoreReady,
    Embed,
    Embedded,
    FrameBuffer,
    FrameError,
    ListAdapters,
    LoadAdapter,
    PinAdapter,
    SetGrant,
    Stats,
    Step,
    StepItem,
    Submit,
    ToCore,
    ToFront,
    UnloadAdapter,
    decode_to_front,
)
from kindling_engine.protocol.repeats import ToCoreWriter
from kindling_engine.server.embedding_inbox import EmbeddingInbox
from kindling_engine.server.errors import ApiError, engine_unavailable

logger = logging.getLogger(__name__)

_OfAdapters = AdapterLoaded | AdapterChanged | AdapterList
# Texts of all calls together that the core may have in line; those of a priority below 0 come in up to half of it.
MAX_OPEN_TEXTS = 16_384
CORE_GONE = "The engine stopped while it worked on this request; it is being restarted."


class CoreStartError(Exception):
    """The core said why it cannot start, or went away before it was ready."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class CoreTicket:
    """The results of one request or of several, in order; the last item of each has a finish."""

    def __init__(self) -> None:
        self._items: deque[StepItem] = deque()
        self._waiter: asyncio.Future[None] | None = None

    def push(self, item: StepItem) -> None:
        self._items.append(item)
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def take(self) -> list[StepItem]:
        """All items that are there, at least one."""
        while not self._items:
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        items = list(self._items)
        self._items.clear()
        return items


class CoreLink(asyncio.Protocol):
    """One connection to one core. `ready` and `closed` are futures; the link serves a single life of the core."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.ready: asyncio.Future[CoreReady] = loop.create_future()
        self.closed: asyncio.Future[None] = loop.create_future()
        self.on_loading: Callable[[CoreLoading], None] = lambda _: None
        self.stats = Stats(0, 0, 0)
        self._transport: asyncio.Transport | None = None
        self._frames = FrameBuffer()
        self._writer = ToCoreWriter()
        self._tickets: dict[str, CoreTicket] = {}
        self._texts: dict[str, EmbeddingInbox] = {}
        self._answers: dict[str, asyncio.Future[_OfAdapters]] = {}

    @property
    def open_requests(self) -> int:
        return len(self._tickets)

    # Requests.

    def submit(self, message: Submit, ticket: CoreTicket) -> None:
        """Start a request whose results go to the ticket. Errors: `duplicate_request`, `engine_unavailable`."""
        if message.id in self._tickets:
            raise ApiError(409, "duplicate_request", "A request with this id is already running.")
        self._send(message)
        self._tickets[message.id] = ticket

    def embed(self, messages: Sequence[Embed], inbox: EmbeddingInbox) -> None:
        """Start all texts of a call. Errors: `duplicate_request`, `overloaded`, `engine_unavailable`."""
        if any(message.id in self._texts for message in messages):
            raise ApiError(409, "duplicate_request", "A request with this id is already running.")
        most = MAX_OPEN_TEXTS // 2 if any(message.priority < 0 for message in messages) else MAX_OPEN_TEXTS
        if len(self._texts) + len(messages) > most:
            raise ApiError(
                503, "overloaded", "The engine has too many texts in line. Try again.", retry_after_s=1
            )
        for message in messages:
            self._send(message)
            self._texts[message.id] = inbox

    def embed_cancel(self, text_ids: Iterable[str]) -> None:
        """Ask for the end of texts; nothing happens to those that have ended."""
        for text_id in text_ids:
            if text_id in self._texts and not self.closed.done():
                self._send(Cancel(text_id))

    def cancel(self, request_id: str) -> None:
        """Ask for the end of a request; nothing happens when it has ended or the core has."""
        if request_id in self._tickets and not self.closed.done():
            self._send(Cancel(request_id))

    def forget(self, request_id: str) -> None:
        """Drop what else comes for a request."""
        self._tickets.pop(request_id, None)

    def grant(self, request_id: str, tokens: int) -> None:
        """Raise a request's total of output tokens."""
        self._send(SetGrant(request_id, tokens))

    # Adapters.

    async def adapter_load(self, adapter: str, folder: Path, *, check: bool) -> AdapterLoaded:
        """Load an adapter, with `check` also try it. Errors: `engine_unavailable`."""
        answer = await self._ask(LoadAdapter(_message_id(), adapter, str(folder), check))
        if not isinstance(answer, AdapterLoaded):
            raise engine_unavailable("The engine's core gave an answer to something else.")
        return answer

    async def adapter_list(self) -> list[AdapterState]:
        """Every adapter the core knows. Errors: `engine_unavailable`."""
        answer = await self._ask(ListAdapters(_message_id()))
        return answer.items if isinstance(answer, AdapterList) else []

    async def adapter_pin(self, adapter: str, *, pinned: bool) -> bool:
        """Let an adapter stay in memory, or no longer; False if it is not there. Errors: `engine_unavailable`."""
        answer = await self._ask(PinAdapter(_message_id(), adapter, pinned))
        return isinstance(answer, AdapterChanged) and answer.found

    async def adapter_unload(self, adapter: str) -> bool:
        """Take an adapter out of memory; False if it was not there. Errors: `engine_unavailable`."""
        answer = await self._ask(UnloadAdapter(_message_id(), adapter))
        return isinstance(answer, AdapterChanged) and answer.found

    async def _ask(self, message: LoadAdapter | PinAdapter | UnloadAdapter | ListAdapters) -> _OfAdapters:
        answer: asyncio.Future[_OfAdapters] = asyncio.get_running_loop().create_future()
        self._send(message)
        self._answers[message.id] = answer
        try:
            return await answer
        finally:
            self._answers.pop(message.id, None)

    def _send(self, message: ToCore) -> None:
        if self._transport is None or self.closed.done():
            raise engine_unavailable(CORE_GONE)
        self._transport.write(self._writer.encode(message))

    # The socket.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if isinstance(transport, asyncio.Transport):
            self._transport = transport

    def data_received(self, data: bytes) -> None:
        try:
            for body in self._frames.feed(data):
                self._receive(decode_to_front(body))
        except FrameError:
            logger.exception("the core sent something that is not a message")
            if self._transport:
                self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        if self.closed.done():
            return
        self.closed.set_result(None)
        if not self.ready.done():
            self.ready.set_exception(CoreStartError("core_died", "The engine's core ended while starting."))
        for answer in self._answers.values():
            if not answer.done():
                answer.set_exception(engine_unavailable(CORE_GONE))
        texts, self._texts = self._texts, {}
        for text_id, inbox in texts.items():
            inbox.push(Embedded(text_id, finish="error", error_code="engine_unavailable", error=CORE_GONE))
        tickets, self._tickets = self._tickets, {}
        for request_id, ticket in tickets.items():
            ticket.push(
                StepItem(request_id, finish="error", error_code="engine_unavailable", error=CORE_GONE)
            )

    def close(self) -> None:
        """Hang up, which ends the core."""
        if self._transport:
            self._transport.close()

    def _receive(self, message: ToFront) -> None:
        match message:
            case Step():
                for item in message.items:
                    self._deliver(item)
            case Embedded():
                if inbox := self._texts.pop(message.id, None):
                    inbox.push(message)
            case CoreLoading():
                self.on_loading(message)
            case Stats():
                self.stats = message
            case AdapterLoaded() | AdapterChanged() | AdapterList():
                answer = self._answers.get(message.id)
                if answer is not None and not answer.done():
                    answer.set_result(message)
            case CoreReady():
                if not self.ready.done():
                    self.ready.set_result(message)
            case CoreFailed():
                if not self.ready.done():
                    self.ready.set_exception(CoreStartError(message.code, message.message))

    def _deliver(self, item: StepItem) -> None:
        ticket = self._tickets.get(item.id)
        if ticket is None:
            return
        if item.finish:
            del self._tickets[item.id]
        ticket.push(item)


def _message_id() -> str:
    return str(uuid.uuid4())
