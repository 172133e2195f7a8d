"""Statements that a request's cancellation does not cut off."""

import asyncio
from collections.abc import Coroutine
from typing import Any


async def to_the_end(statement: Coroutine[Any, Any, None]) -> None:
    """Carry a statement out also when the request is cancelled meanwhile, however often.

    Whether it was must not be left open, as who is charged depends on it. The cancellation goes on behind its end;
    Postgres bounds how long that takes. Errors: the statement's own, where nobody cancelled.
    """
    task, is_cancelled = asyncio.create_task(statement), False
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError:
            is_cancelled = True
    if is_cancelled:
        task.exception()  # taken notice of
        raise asyncio.CancelledError
    task.result()
