"""The read-through cache: one load at a time, old values while loads fail, no old absence."""

import asyncio

import pytest

from kindling_platform.gateway import caches
from kindling_platform.gateway.caches import LoadFailedError, TtlCache


class Source:
    """Something to load from, which can be slow or down."""

    def __init__(self) -> None:
        self.value: str | None = "first"
        self.loads = 0
        self.down = False
        self.gate = asyncio.Event()
        self.gate.set()

    async def load(self, key: str) -> str | None:
        self.loads += 1
        await self.gate.wait()
        if self.down:
            raise OSError("down")
        return self.value


async def test_many_callers_share_one_load():
    source = Source()
    cache = TtlCache(source.load)
    source.gate.clear()
    calls = [asyncio.create_task(cache.get("a")) for _ in range(50)]
    await asyncio.sleep(0)
    source.gate.set()
    assert set(await asyncio.gather(*calls)) == {"first"}
    assert source.loads == 1


async def test_a_value_is_read_again_after_its_time(monkeypatch: pytest.MonkeyPatch):
    now_s = 0.0
    monkeypatch.setattr(caches, "monotonic", lambda: now_s)
    source = Source()
    cache = TtlCache(source.load, ttl_s=1.0)
    assert await cache.get("a") == "first"
    source.value = "second"
    assert await cache.get("a") == "first"
    now_s = 1.01
    assert await cache.get("a") == "second"


async def test_a_value_in_use_is_read_again_before_anybody_has_to_wait(monkeypatch: pytest.MonkeyPatch):
    now_s = 0.0
    monkeypatch.setattr(caches, "monotonic", lambda: now_s)
    source = Source()
    cache = TtlCache(source.load, ttl_s=1.0)
    await cache.get("a")
    source.value = "second"
    now_s = 0.6
    assert await cache.get("a") == "first"
    await asyncio.sleep(0)
    assert source.loads == 1
    now_s = 0.8
    assert [await cache.get("a"), await cache.get("a")] == [
        "first",
        "first",
    ]  # who finds it ripe goes on with it
    await asyncio.sleep(0)
    assert source.loads == 2
    now_s = 1.7
    entry = cache.fresh("a")
    assert entry is not None
    assert (entry.value, entry.loaded_at) == ("second", 0.8)


async def test_values_of_one_moment_are_not_all_read_again_in_one(monkeypatch: pytest.MonkeyPatch):
    now_s, names = 0.0, [str(number) for number in range(50)]
    monkeypatch.setattr(caches, "monotonic", lambda: now_s)
    source = Source()
    cache = TtlCache(source.load, ttl_s=1.0)
    for name in names:
        await cache.get(name)
    now_s = 0.7
    for name in names:
        await cache.get(name)
    await asyncio.sleep(0)
    assert 50 < source.loads < 100


async def test_a_ripe_value_is_left_alone_while_loads_fail(monkeypatch: pytest.MonkeyPatch):
    now_s = 0.0
    monkeypatch.setattr(caches, "monotonic", lambda: now_s)
    source = Source()
    cache = TtlCache(source.load, ttl_s=1.0)
    await cache.get("a")
    source.down = True
    now_s = 0.8
    assert await cache.get("a") == "first"
    for _ in range(3):
        await asyncio.sleep(0)
    assert await cache.get("a") == "first"
    await asyncio.sleep(0)
    assert source.loads == 2


async def test_an_old_value_is_served_while_loads_fail_and_soon_without_waiting():
    source = Source()
    cache = TtlCache(source.load, ttl_s=0.0)
    await cache.get("a")
    source.down = True
    assert await cache.get("a") == "first"
    source.gate.clear()  # from here on loads hang
    async with asyncio.timeout(60):
        assert await cache.get("a") == "first"
    source.gate.set()
    with pytest.raises(LoadFailedError):
        await cache.get("b")


async def test_an_old_value_has_an_end():
    source = Source()
    cache = TtlCache(source.load, ttl_s=0.0, stale_s=0.0)
    await cache.get("a")
    source.down = True
    with pytest.raises(LoadFailedError):
        await cache.get("a")


async def test_an_old_absence_is_not_served_instead_of_an_error():
    source = Source()
    source.value = None
    cache = TtlCache(source.load, ttl_s=0.0)
    assert await cache.get("a") is None
    source.down = True
    with pytest.raises(LoadFailedError):
        await cache.get("a")


async def test_a_caller_who_leaves_does_not_end_the_load_of_others():
    source = Source()
    cache = TtlCache(source.load)
    source.gate.clear()
    leaver, stayer = (asyncio.create_task(cache.get("a")) for _ in range(2))
    await asyncio.sleep(0)
    leaver.cancel()
    source.gate.set()
    assert await stayer == "first"
    assert source.loads == 1


async def test_it_keeps_no_more_than_its_size():
    source = Source()
    cache = TtlCache(source.load, size=3)
    for key in "abcde":
        await cache.get(key)
    assert [key for key in "abcde" if cache.fresh(key)] == ["c", "d", "e"]


async def test_what_is_not_there_pushes_nothing_out():
    source = Source()
    cache = TtlCache(source.load, size=3, missing=2)
    for key in "abc":
        await cache.get(key)
    source.value = None
    for number in range(10):
        assert await cache.get(f"made up {number}") is None
    assert source.loads == 13
    for key in ("a", "b", "c", "made up 9", "made up 8"):
        assert cache.fresh(key) is not None
    assert cache.fresh("made up 7") is None
    source.value = "there now"
    assert (await cache.entry("made up 9", max_age_s=0)).value == "there now"
    assert await cache.get("made up 9") == "there now"
