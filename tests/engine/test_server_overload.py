"""What can wait is refused at half of what the engine takes in, so that it keeps nobody else out."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from kindling_engine.protocol.ipc import Embed
from kindling_engine.server import core_link, front
from kindling_engine.server.core_link import CoreLink
from kindling_engine.server.embedding_inbox import EmbeddingInbox
from kindling_engine.server.errors import ApiError
from kindling_fake_core import Bench, fake_bench


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with fake_bench(tmp_path) as made:
        made.say("x")
        yield made


async def test_requests_that_can_wait_get_half_of_the_line(bench: Bench, monkeypatch):
    monkeypatch.setattr(front, "MAX_OPEN_REQUESTS", 4)
    bench.core.gate = asyncio.Semaphore(0)
    waiting = []
    for count, priority in enumerate(["-1", "-12", "0", "0"], start=1):
        waiting.append(asyncio.create_task(_status(bench, priority)))
        while bench.front.core.open_requests < count:
            await asyncio.sleep(0.01)
        refused = [await _status(bench, "-1")] if count >= 2 else []
        assert refused in ([], [(503, "overloaded")])
    assert await _status(bench, "0") == (503, "overloaded")
    for _ in range(100):
        bench.core.gate.release()
    assert await asyncio.gather(*waiting) == [(200, "")] * 4


async def test_texts_that_can_wait_get_half_of_the_line(monkeypatch):
    monkeypatch.setattr(core_link, "MAX_OPEN_TEXTS", 4)
    link = CoreLink()
    link.connection_made(_Sink())
    _embed(link, "a", 2, priority=-12)
    with pytest.raises(ApiError) as refused:
        _embed(link, "b", 1, priority=-1)
    assert (refused.value.status, refused.value.code) == (503, "overloaded")
    _embed(link, "c", 2, priority=0)
    with pytest.raises(ApiError) as full:
        _embed(link, "d", 1, priority=0)
    assert full.value.code == "overloaded"


def _embed(link: CoreLink, name: str, count: int, *, priority: int) -> None:
    texts = [Embed(f"{name}/{index}", [1, 2], priority=priority) for index in range(count)]
    link.embed(texts, EmbeddingInbox(text.id for text in texts))


async def _status(bench: Bench, priority: str) -> tuple[int, str]:
    async with bench.chat(headers={"priority": priority}) as reply:
        return reply.status, "" if reply.status == 200 else (await reply.json())["error"]["code"]


class _Sink(asyncio.Transport):
    """Takes whatever is written."""

    def write(self, data) -> None:
        del data
