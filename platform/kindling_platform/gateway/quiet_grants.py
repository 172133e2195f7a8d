"""Rolling grants for an answer that is not streamed: nothing of it is heard until it is whole, so its engine is asked.

Most answers end within the first grant, and soon. Only one that lasts is asked about.
"""

import asyncio
from collections.abc import Awaitable, Callable

from kindling_platform.gateway.routing import Replica
from kindling_platform.gateway.upstream import Engines

# An engine waits two seconds at the end of a grant, so nothing is late by this much.
FIRST_LOOK_S = 0.25
LOOK_AGAIN_S, LOOK_AGAIN_MOST_S = 0.05, 0.5


class QuietGrants:
    """Waits until a request nears the end of its grant and has `extend` raise it, as often as that gives True."""

    __slots__ = ("_engines", "_extend", "_replica", "_request_id", "_task", "_timer")

    def __init__(
        self,
        engines: Engines,
        replica: Replica,
        request_id: str,
        *,
        extend: Callable[[], Awaitable[bool]],
        first_look_s: float = FIRST_LOOK_S,
    ) -> None:
        self._engines = engines
        self._replica = replica
        self._request_id = request_id
        self._extend = extend
        self._task: asyncio.Task[None] | None = None
        self._timer = asyncio.get_running_loop().call_later(first_look_s, self._begin)

    def stop(self) -> None:
        """The answer is there, or nobody waits for it."""
        self._timer.cancel()
        if self._task:
            self._task.cancel()

    def _begin(self) -> None:
        self._task = asyncio.create_task(self._roll())

    async def _roll(self) -> None:
        again_s = LOOK_AGAIN_S
        while True:
            short = await self._engines.short(self._replica, self._request_id)
            if short is None:
                # It still reads the request's body, or has just ended it: then this is stopped.
                await asyncio.sleep(again_s)
                again_s = min(2 * again_s, LOOK_AGAIN_MOST_S)
            elif short and not await self._extend():
                return
