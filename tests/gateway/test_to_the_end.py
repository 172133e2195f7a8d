"""A statement runs to its end however often the request that waits for it is cancelled."""

import asyncio

import pytest

from kindling_platform.gateway.to_the_end import to_the_end


async def test_it_ends_before_the_cancellation_goes_on():
    go_on, done = asyncio.Event(), []

    async def statement() -> None:
        await go_on.wait()
        done.append(True)

    waiting = asyncio.create_task(to_the_end(statement()))
    for _ in range(3):
        await asyncio.sleep(0)
        waiting.cancel()
    await asyncio.sleep(0)
    assert not done and not waiting.done()
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert done


async def test_its_error_is_the_callers():
    async def statement() -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await to_the_end(statement())
