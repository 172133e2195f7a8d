"""The real front of an embedding model over a core that makes vectors up, and a client."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
from aiohttp import web

from kindling_engine.protocol.ipc import Cancel, Embed, Embedded
from kindling_engine.server.app import create_app
from kindling_engine.server.core_link import CoreLink
from kindling_engine.server.embedding_text import embedding_text_load
from kindling_engine.server.front import Front
from kindling_engine.server.model_text import model_text_load
from kindling_engine.server.request_common import ModelFacts
from kindling_engine.server.usage import UsageBook
from kindling_fake_core import Bench, FakeCore
from kindling_tiny_encoders import VOCAB

CONTEXT_LENGTH = 64
HIDDEN_SIZE = 16
MODEL = "acme/vectors"


class FakeEmbeddingCore(FakeCore):
    """Answers every text with a vector that its tokens choose; `gate` lets that many through."""

    def __init__(self) -> None:
        super().__init__()
        self.embeds: list[Embed] = []
        self.finish: dict[str, tuple[str, str]] = {}  # by the last part of an id: how it ends instead
        self._open: dict[str, asyncio.Task[None]] = {}

    def _handle(self, message: Any) -> None:
        if isinstance(message, Embed):
            self.embeds.append(message)
            self._open[message.id] = asyncio.create_task(self._embed(message))
        elif isinstance(message, Cancel):
            self.cancelled.append(message.id)
            task = self._open.pop(message.id, None)
            if task is not None and not task.done():
                task.cancel()
                self.send(Embedded(message.id, prompt_tokens=99, finish="cancelled"))
        else:
            super()._handle(message)

    async def _embed(self, message: Embed) -> None:
        if self.gate:
            await self.gate.acquire()
        tokens = len(message.prompt_ids)
        finish, code = self.finish.get(message.id.rpartition("/")[2], ("stop", ""))
        values = vector_of(message.prompt_ids).astype("<f4").tobytes() if finish == "stop" else b""
        self.send(Embedded(message.id, values, tokens, 0, finish, code, "As told." if code else ""))

    def die(self) -> None:
        for task in self._open.values():
            task.cancel()
        super().die()


class EmbeddingBench(Bench):
    """`core` is the FakeEmbeddingCore."""

    core: FakeEmbeddingCore

    def embed(self, given: Any, **fields: Any) -> Any:
        headers = fields.pop("headers", {})
        return self.post("/v1/embeddings", {"model": MODEL, "input": given, **fields}, **headers)

    async def embed_whole(self, given: Any, **fields: Any) -> dict[str, Any]:
        async with self.embed(given, **fields) as reply:
            assert reply.status == 200, await reply.text()
            return dict(await reply.json())

    async def refused(self, given: Any, **fields: Any) -> dict[str, Any]:
        async with self.embed(given, **fields) as reply:
            assert reply.status >= 400, await reply.text()
            return {"status": reply.status, **(await reply.json())["error"]}


def vector_of(ids: list[int]) -> np.ndarray:
    """What the fake core makes of a text; not of unit length."""
    return 3 * np.random.default_rng(ids).standard_normal(HIDDEN_SIZE).astype(np.float32)


@asynccontextmanager
async def embedding_bench(model: Path, folder: Path) -> AsyncIterator[EmbeddingBench]:
    """The front for the texts of the model folder ``model``; files go to ``folder``."""
    loop = asyncio.get_running_loop()
    link, core = CoreLink(), FakeEmbeddingCore()
    socket = folder / "core.sock"
    server = await loop.create_unix_server(lambda: link, str(socket))
    await core.connect(socket)
    text = model_text_load(model)
    front = Front(
        core=link,
        text=text,
        facts=ModelFacts(MODEL, CONTEXT_LENGTH, VOCAB, frozenset()),
        book=UsageBook(folder / "usage.log", "replica-0"),
        blobs=folder / "blobs",
        embedding=embedding_text_load(model, text, hidden_size=HIDDEN_SIZE),
    )
    runner = web.AppRunner(
        create_app(front), handler_cancellation=True, access_log=None, shutdown_timeout=0.1
    )
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    async with aiohttp.ClientSession() as http:
        yield EmbeddingBench(core, front, f"http://127.0.0.1:{runner.addresses[0][1]}", http)
    await runner.cleanup()
    core.die()
    server.close()
    front.book.close()
