"""A request that is cancelled while it asks for its key does not keep it from others."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from kindling_platform.gateway.database import Database
from kindling_platform.gateway.idempotency.guard import Idempotency
from kindling_platform.gateway.idempotency.store import ReplyStore
from kindling_platform.gateway.surface.batches.call import InnerRequest

STATES = "SELECT json_agg(status ORDER BY status)::text FROM usage_idempotentreply WHERE organisation_id = %s"


class LateStore(ReplyStore):
    """The rows as they are; an entry is told late."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self.begun = asyncio.Event()

    async def enter(self, **asked: Any) -> Any:
        entry = await super().enter(**asked)
        self.begun.set()
        await asyncio.sleep(0.1)
        return entry


def request_make() -> InnerRequest:
    async def nothing(*_: Any) -> Any:
        return {"type": "http.disconnect"}

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/v1/chat/completions",
        "query_string": b"",
        "headers": [(b"idempotency-key", b"one")],
    }
    return InnerRequest(scope, nothing, nothing, None)


async def cancelled(url: str, caller: Any) -> None:
    """A request that is cancelled when the statement has been carried out, and has not told so."""
    database = Database(url, writes=True)
    await database.open()
    store, request = LateStore(database), request_make()
    rows = Idempotency(store, "secret", SimpleNamespace(), SimpleNamespace())  # type: ignore[arg-type]

    async def serve() -> None:
        async with rows.guard(request, caller, SimpleNamespace(), b"{}"):  # type: ignore[arg-type]
            await request.reply(200, b"{}")

    task = asyncio.create_task(serve())
    await store.begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await database.close()


def test_a_key_is_free_at_once(scene):
    caller = SimpleNamespace(org_id=scene.customer.id, key_id="key_one", token=None)
    asyncio.run(cancelled(scene.world.url, caller))
    assert scene.world.value(STATES, scene.customer.id) is None
