"""A request that is cancelled in the midst of a statement about its key leaves the key as the statement says."""

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
    """The rows as they are; an entry is told late, or an answer is kept late."""

    def __init__(self, database: Database, late: str) -> None:
        super().__init__(database)
        self._late = late
        self.begun = asyncio.Event()

    async def _linger(self, name: str) -> None:
        if name == self._late:
            self.begun.set()
            await asyncio.sleep(0.1)

    async def enter(self, **asked: Any) -> Any:
        entry = await super().enter(**asked)
        await self._linger("enter")
        return entry

    async def keep(self, **asked: Any) -> Any:
        await self._linger("keep")
        return await super().keep(**asked)


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


async def cancelled(url: str, caller: Any, late: str) -> None:
    """A request that answers at once, cancelled in the midst of the late statement."""
    database = Database(url, writes=True)
    await database.open()
    store, request = LateStore(database, late), request_make()
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


@pytest.mark.parametrize(("late", "left"), [("enter", None), ("keep", "[200]")])
def test_a_key_is_free_or_has_its_answer_at_once(scene, late: str, left: str | None):
    caller = SimpleNamespace(org_id=scene.customer.id, key_id="key_one", token=None)
    asyncio.run(cancelled(scene.world.url, caller, late))
    assert scene.world.value(STATES, scene.customer.id) == left
