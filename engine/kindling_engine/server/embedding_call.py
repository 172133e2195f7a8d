"""One embeddings call between its start in the core and its usage record."""

from kindling_engine.protocol.headers import EngineHeaders
from kindling_engine.protocol.ipc import Embed
from kindling_engine.protocol.usage_log import UsageLogError, UsageRecord
from kindling_engine.server.core_link import CoreLink
from kindling_engine.server.embedding_inbox import EmbeddingInbox
from kindling_engine.server.errors import ApiError, core_error
from kindling_engine.server.generation import Spawn
from kindling_engine.server.usage import UsageBook, now_ms


class EmbeddingCall:
    """Has all inputs of a call embedded, and writes exactly one usage record however it ends.

    The record is written before `vectors` returns or raises. Whoever does not wait for `vectors` calls `close`,
    which cancels in the core and records the texts whose vectors had been made.
    """

    def __init__(
        self,
        *,
        core: CoreLink,
        book: UsageBook,
        headers: EngineHeaders,
        inputs: list[list[int]],
        spawn: Spawn,
    ) -> None:
        self.id = headers.request
        self.started_ms = now_ms()
        self._ended = False
        self._core = core
        self._book = book
        self._headers = headers
        self._spawn = spawn
        self._ids = [self.id if len(inputs) == 1 else f"{self.id}/{index}" for index in range(len(inputs))]
        self._inbox = EmbeddingInbox(self._ids)
        core.embed(
            [
                Embed(
                    id=text_id,
                    prompt_ids=ids,
                    adapter=headers.adapter,
                    salt=headers.salt,
                    tenant=headers.tenant,
                    priority=headers.priority,
                    weight=headers.weight,
                )
                for text_id, ids in zip(self._ids, inputs, strict=True)
            ],
            self._inbox,
        )

    @property
    def prompt_tokens(self) -> int:
        """Tokens of the texts whose vectors were made."""
        return sum(one.prompt_tokens for one in self._inbox.answers.values() if one.finish == "stop")

    @property
    def cached_tokens(self) -> int:
        """Those of them whose keys and values came out of the prefix cache."""
        return sum(one.cached_tokens for one in self._inbox.answers.values() if one.finish == "stop")

    async def vectors(self) -> list[bytes]:
        """The vectors in the order of the inputs, as the core sends them. Errors: whatever ended a text."""
        failed = await self._inbox.ready()
        if failed is not None:
            self.abort()
            self._record("error")
            if failed.finish == "cancelled":
                # Nobody but us cancels, and a reader is still here: the server is going down.
                raise ApiError(503, "engine_unavailable", "The engine is shutting down.", retry_after_s=2)
            raise core_error(failed.error_code, failed.error)
        self._record("stop")
        return [self._inbox.answers[text_id].values for text_id in self._ids]

    def close(self) -> None:
        """End a call that nobody waits for any more; does nothing after its end."""
        if not self._ended:
            self.abort()
            self._spawn(self._settle())

    def abort(self) -> None:
        """End what is still open because we have to stop: a failure of ours, which `vectors` raises."""
        self._core.embed_cancel(self._inbox.open)

    async def _settle(self) -> None:
        """Wait for the core's last words, so that the record counts every vector that was made."""
        await self._inbox.settled()
        failed = self._inbox.failed
        self._record("error" if failed is not None and failed.finish == "error" else "cancelled")

    def _record(self, finish: str) -> None:
        """Write the record. A record that cannot be written is a failure of ours, so the caller gets no answer."""
        if self._ended:
            return
        self._ended = True
        ended_ms = now_ms()
        record = UsageRecord(
            request_id=self.id,
            context=self._headers.context,
            tenant=self._headers.tenant,
            adapter=self._headers.adapter,
            prompt_tokens=self.prompt_tokens,
            cached_tokens=self.cached_tokens,
            completion_tokens=0,
            finish=finish,
            started_ms=self.started_ms,
            first_token_ms=None,
            finished_ms=ended_ms,
            replica=self._book.replica,
        )
        try:
            self._book.append(record)
        except UsageLogError as error:
            raise ApiError(500, "usage_not_recorded", "The engine could not record this request.") from error
