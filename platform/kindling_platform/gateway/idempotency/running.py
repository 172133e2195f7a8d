"""A request with an Idempotency-Key while it runs: its lease is renewed, its answer kept before the client has it."""

import asyncio
from uuid import UUID

from kindling_platform.common.crash_points import crash_point
from kindling_platform.gateway.access_log import Log
from kindling_platform.gateway.database import DatabaseUnavailableError
from kindling_platform.gateway.errors import books_unavailable
from kindling_platform.gateway.idempotency.answer import Answer
from kindling_platform.gateway.idempotency.seal import Seal
from kindling_platform.gateway.idempotency.store import ReplyStore
from kindling_platform.gateway.request import Headers
from kindling_platform.gateway.surface.shaped import ShapedRequest
from kindling_platform.gateway.to_the_end import to_the_end

RENEWALS_PER_LEASE = 3


class Running:
    """Listens to the request's answer and to its changes of id."""

    def __init__(self, store: ReplyStore, seal: Seal, request: ShapedRequest, log: Log) -> None:
        self._store = store
        self._seal = seal
        self._request = request
        self._log = log
        self._id = UUID(request.id)
        # Answered, or not ours any more: the row stays as it is.
        self._done = False
        request.before_reply = self._keep
        request.on_new_id = self._move

    async def renew(self) -> None:
        """Keep others from taking this request for dead, until cancelled."""
        while True:
            await asyncio.sleep(self._store.lease_s / RENEWALS_PER_LEASE)
            try:
                await self._store.renew(digest=self._seal.digest, request_id=self._id)
            except DatabaseUnavailableError:
                self._log.warning("idempotency_lease_not_renewed", request_id=str(self._id))

    async def leave(self) -> None:
        """The request is over. Without an answer its key may be used again at once."""
        self._request.before_reply = self._request.on_new_id = None
        if self._done:
            return
        try:
            await self._store.leave(digest=self._seal.digest, request_id=self._id)
        except DatabaseUnavailableError:
            self._log.warning("idempotency_not_left", request_id=str(self._id))

    async def _keep(self, status: int, body: bytes, headers: Headers) -> None:
        if status == 200:
            await to_the_end(self._keep_answer(body, headers))

    async def _keep_answer(self, body: bytes, headers: Headers) -> None:
        form = self._request.form
        answer = Answer(body, [*headers, *(form.headers() if form else [])]).pack()
        self._done = True
        try:
            self._request.is_kept = await self._store.keep(
                digest=self._seal.digest, request_id=self._id, status=200, answer=self._seal.close(answer)
            )
        except DatabaseUnavailableError:
            # The client has its answer. If it asks again after the lease, this one turns out to be free.
            self._log.warning("idempotent_reply_not_kept", request_id=str(self._id))
        crash_point("idempotency.kept")

    async def _move(self) -> None:
        await to_the_end(self._move_to(UUID(self._request.id)))

    async def _move_to(self, moved: UUID) -> None:
        try:
            found = await self._store.move(digest=self._seal.digest, request_id=self._id, moved=moved)
        except DatabaseUnavailableError as error:
            raise books_unavailable() from error
        if not found:
            raise books_unavailable()
        self._id = moved
