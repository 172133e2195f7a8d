"""Replies with very many log-probabilities are written in a thread, and say the same."""

import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from kindling_engine.server import completion_reply, inference
from kindling_fake_core import Bench, events, fake_bench


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with fake_bench(tmp_path) as made:
        made.say("one two")
        yield made


async def told(bench: Bench, **fields: Any) -> Any:
    body = {"model": "m", "prompt": [5] * 40, "n": 2, "max_tokens": 5, "echo": True, "logprobs": 2, **fields}
    async with bench.post("/v1/completions", body) as reply:
        assert reply.status == 200, await reply.text()
        found = events(await reply.read()) if fields else [await reply.json()]
    return [one["choices"] for one in found if isinstance(one, dict)]


@pytest.mark.parametrize("fields", [{}, {"stream": True}], ids=["whole", "stream"])
async def test_large_replies_are_written_in_a_thread(
    bench: Bench, fields: dict[str, Any], monkeypatch: pytest.MonkeyPatch
):
    inside, make = [], completion_reply.completion_logprobs

    def watched(*given: Any) -> Any:
        inside.append(threading.current_thread() is threading.main_thread())
        return make(*given)

    monkeypatch.setattr(completion_reply, "completion_logprobs", watched)
    small = await told(bench, **fields)
    assert all(inside)
    inside.clear()
    monkeypatch.setattr(inference, "INLINE_ENTRIES", 20)
    assert await told(bench, **fields) == small
    assert False in inside
