"""`Idempotency-Key`: the same request again gets the same answer for a day, and is charged once."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from uuid import UUID

from cryptography.exceptions import InvalidTag

from kindling_platform.common.crash_points import crash_point
from kindling_platform.gateway.access_log import Log
from kindling_platform.gateway.auth import Caller
from kindling_platform.gateway.catalog import Model
from kindling_platform.gateway.database import DatabaseUnavailableError
from kindling_platform.gateway.errors import GatewayError, books_unavailable
from kindling_platform.gateway.idempotency.answer import Answer
from kindling_platform.gateway.idempotency.running import Running
from kindling_platform.gateway.idempotency.seal import Seal, seal_of
from kindling_platform.gateway.idempotency.store import Entry, ReplyStore
from kindling_platform.gateway.spool.context import context_text
from kindling_platform.gateway.spool.metering import Metering
from kindling_platform.gateway.spool.recorder import request_void
from kindling_platform.gateway.surface.shaped import ShapedRequest
from kindling_platform.gateway.to_the_end import to_the_end

HEADER = b"idempotency-key"
NAME = "Idempotency-Key"
REPLAYED = (b"idempotent-replayed", b"true")
MAX_KEY_BYTES = 255


class Idempotency:
    """Guards requests that carry a key; all others pass untouched."""

    def __init__(self, store: ReplyStore, secret: str, metering: Metering, log: Log) -> None:
        self._store = store
        self._secret = secret
        self._metering = metering
        self._log = log

    @asynccontextmanager
    async def guard(
        self, request: ShapedRequest, caller: Caller, model: Model, body: bytes
    ) -> AsyncIterator[bool]:
        """Whether the request is to run; if not, it was answered with what is kept.

        Raises:
            GatewayError: 400 for a key that is none or that another request has used, 409 while that request runs, 503
                when the rows cannot be reached.
        """
        seal = self._seal(request, caller)
        if seal is None:
            yield True
            return
        fingerprint = hashlib.sha256(request.path.encode() + b"\0" + body).digest()
        entry = Entry(mine=False)

        async def enter() -> None:
            nonlocal entry
            entry = await self._enter(seal, request, caller, fingerprint)

        try:
            await to_the_end(enter())
        except asyncio.CancelledError:
            if entry.mine:  # nobody else would give the row back before its lease is over
                await to_the_end(self._take(seal, request, caller, model, entry).leave())
            raise
        if not entry.mine:
            await self._answer(request, seal, entry, fingerprint)
            yield False
            return
        crash_point("idempotency.entered")
        running = self._take(seal, request, caller, model, entry)
        crash_point("idempotency.taken")
        renewing = asyncio.create_task(running.renew())
        try:
            yield True
        finally:
            renewing.cancel()
            await running.leave()

    def _take(
        self, seal: Seal, request: ShapedRequest, caller: Caller, model: Model, entry: Entry
    ) -> Running:
        """Stand in for those before: their processes have died without an answer. Whatever became of them, they are not
        charged beside this one.
        """
        for request_id in entry.earlier:
            request_void(self._metering, request_id, context_text(caller, model))
        return Running(self._store, seal, request, self._log)

    def _seal(self, request: ShapedRequest, caller: Caller) -> Seal | None:
        key = request.headers.get(HEADER)
        if key is None:
            return None
        if not 0 < len(key) <= MAX_KEY_BYTES or not key.isascii() or not key.decode().isprintable():
            message = f"{NAME} has to be 1 to {MAX_KEY_BYTES} printable ASCII characters."
            raise GatewayError(400, "invalid_value", message, param=NAME)
        token = caller.token.id if caller.token else ""
        return seal_of(self._secret, scope=f"{caller.org_id}:{caller.key_id}:{token}", key=key)

    async def _enter(self, seal: Seal, request: ShapedRequest, caller: Caller, fingerprint: bytes) -> Entry:
        try:
            return await self._store.enter(
                digest=seal.digest, org_id=caller.org_id, fingerprint=fingerprint, request_id=UUID(request.id)
            )
        except DatabaseUnavailableError as error:
            raise books_unavailable() from error

    async def _answer(self, request: ShapedRequest, seal: Seal, entry: Entry, fingerprint: bytes) -> None:
        if entry.fingerprint != fingerprint:
            message = f"This {NAME} was used with another request. Use a new key for each request."
            raise GatewayError(400, "idempotency_key_reused", message, param=NAME)
        answer = None
        if entry.status:
            with suppress(InvalidTag):  # sealed by another secret, before it was changed
                answer = Answer.unpack(seal.open(entry.answer))
        if answer is None or entry.request_id is None:
            message = f"A request with this {NAME} is running. Ask again in a moment for its answer."
            raise GatewayError(409, "idempotency_running", message, headers={"retry-after": "1"})
        request.id = str(entry.request_id)
        request.facts["replayed"] = True
        request.form = None  # the answer has its form
        await request.reply(entry.status, answer.body, [*answer.headers, REPLAYED])
