"""What all handlers share: the core, the texts, the usage log, and whether we still take requests."""

import asyncio
import contextlib
from pathlib import Path
from typing import Any

from kindling_engine.protocol.headers import EngineHeaders
from kindling_engine.server.core_link import CoreLink
from kindling_engine.server.embedding_call import EmbeddingCall
from kindling_engine.server.embedding_text import EmbeddingText
from kindling_engine.server.errors import ApiError, engine_unavailable
from kindling_engine.server.generation import Generation
from kindling_engine.server.model_text import ModelText
from kindling_engine.server.request_common import GenerationRequest, ModelFacts
from kindling_engine.server.starts import starts_make
from kindling_engine.server.task_set import TaskSet
from kindling_engine.server.usage import UsageBook

# Requests that may be in line; those of a priority below 0 come in up to half of it.
MAX_OPEN_REQUESTS = 1024
LAST_WORDS_WITHIN_S = 2.0


class Front:
    """One engine as its HTTP side sees it."""

    def __init__(
        self,
        *,
        core: CoreLink,
        text: ModelText,
        facts: ModelFacts,
        book: UsageBook,
        blobs: Path,
        embedding: EmbeddingText | None = None,
    ) -> None:
        self.core = core
        self.text = text
        self.facts = facts
        self.book = book
        self.blobs = blobs
        self.embedding = embedding
        self.draining = False
        self._generations: dict[str, Generation | EmbeddingCall] = {}
        self._tasks = TaskSet()
        self._idle = asyncio.Event()
        self._idle.set()

    def check_open(self, priority: int = 0) -> None:
        """Errors: `engine_unavailable` while stopping, dead or out of disk; `overloaded`, below
        priority 0 at half of what others get, so that what can wait keeps nobody out.
        """
        if self.draining:
            raise engine_unavailable("The engine is shutting down.")
        if self.core.closed.done():
            raise engine_unavailable("The engine's core has stopped; it is being restarted.")
        if self.core.open_requests >= (MAX_OPEN_REQUESTS // 2 if priority < 0 else MAX_OPEN_REQUESTS):
            raise ApiError(
                503, "overloaded", "The engine has too many requests in line. Try again.", retry_after_s=1
            )
        self.book.check_room()

    def check_generates(self) -> None:
        """Errors: `not_a_generation_model`."""
        if self.embedding is not None:
            raise ApiError(
                400,
                "not_a_generation_model",
                f"The model {self.facts.ref!r} makes embeddings; ask /v1/embeddings, or choose another model.",
                param="model",
            )

    def start(self, request: GenerationRequest, headers: EngineHeaders) -> Generation:
        """Submit a request; it stands in the list until `end`."""
        generation = Generation(
            core=self.core,
            book=self.book,
            headers=headers,
            starts=starts_make(request, headers, self.text, self.facts.eos_ids),
            spawn=self._tasks.spawn,
        )
        self._generations[generation.id] = generation
        self._idle.clear()
        return generation

    def embed(self, inputs: list[list[int]], headers: EngineHeaders) -> EmbeddingCall:
        """Have texts embedded; the call stands in the list until `end`."""
        call = EmbeddingCall(
            core=self.core, book=self.book, headers=headers, inputs=inputs, spawn=self._tasks.spawn
        )
        self._generations[call.id] = call
        self._idle.clear()
        return call

    def end(self, generation: Generation | EmbeddingCall) -> None:
        """A handler is done with its request, however that came."""
        if self._generations.get(generation.id) is generation:
            del self._generations[generation.id]
            if not self._generations:
                self._idle.set()
        generation.close()

    def get(self, request_id: str) -> Generation:
        """A running request. Errors: `unknown_request`."""
        generation = self._generations.get(request_id)
        if not isinstance(generation, Generation):
            raise ApiError(404, "unknown_request", "No request with this id is running here.")
        return generation

    @property
    def active(self) -> int:
        return len(self._generations)

    async def drain(self, within_s: float) -> None:
        """Take no more requests, let the running ones end, then end those that did not."""
        self.draining = True
        idle = asyncio.ensure_future(self._idle.wait())
        either: list[asyncio.Future[Any]] = [idle, self.core.closed]
        await asyncio.wait(either, timeout=within_s, return_when=asyncio.FIRST_COMPLETED)
        idle.cancel()
        for generation in list(self._generations.values()):
            generation.abort()
        await self.settle(LAST_WORDS_WITHIN_S)

    async def settle(self, within_s: float) -> None:
        """Let handlers send their last words and records be written."""
        deadline = asyncio.get_running_loop().time() + within_s
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._idle.wait(), within_s)
        await self._tasks.wait(max(0.0, deadline - asyncio.get_running_loop().time()))
