"""What is written again and again reaches Postgres, and every way in which it does not is said."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest

from kindling_platform.embedded.bench_reliability.proxy import FaultProxy
from kindling_platform.gateway.database import DatabaseUnavailableError
from kindling_platform.gateway.scribe import Scribe

TABLE = "CREATE TABLE IF NOT EXISTS noted (id text PRIMARY KEY, said text, source text)"
INSERT = (
    "INSERT INTO noted SELECT one.id, one.said, %(source)s FROM json_to_recordset(%(rows)s::json)"
    " AS one (id text, said text) ON CONFLICT DO NOTHING"
)


def values(*ids: str, said: str = "ä") -> dict[str, str]:
    rows = ",".join(f'{{"id":"{one}","said":"{said}"}}' for one in ids)
    return {"source": "here", "rows": f"[{rows}]"}


@pytest.fixture
def world(scene):
    scene.world.execute(TABLE)
    scene.world.execute("TRUNCATE noted")
    return scene.world


@asynccontextmanager
async def scribe_open(url: str, *, answer_s: float = 5.0) -> AsyncIterator[Scribe]:
    scribe = Scribe(url, answer_s=answer_s)
    await scribe.open()
    try:
        yield scribe
    finally:
        await scribe.close()


def noted(world) -> list[tuple[str, ...]]:
    return world.rows("SELECT id, said, source FROM noted ORDER BY id")


async def test_rows_are_written_once_over_one_connection(world):
    async with scribe_open(world.url) as scribe:
        await asyncio.gather(scribe.write(INSERT, values("a", "b")), scribe.write(INSERT, values("b", "c")))
        await scribe.write("DELETE FROM noted WHERE id = %(id)s", {"id": "a"})
        count = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND query LIKE %s"
        assert world.value(count, "DELETE FROM noted%") == 1
    assert noted(world) == [("b", "ä", "here"), ("c", "ä", "here")]


async def test_more_than_the_kernel_takes_at_once(world):
    said = "x" * 8_000_000
    async with scribe_open(world.url) as scribe:
        await scribe.write(INSERT, values("a", said=said))
        await scribe.write(INSERT, values("b"))
    assert world.rows("SELECT id, length(said) FROM noted ORDER BY id") == [("a", len(said)), ("b", 1)]


async def test_what_postgres_refuses_is_an_error_and_the_next_is_not(world):
    async with scribe_open(world.url) as scribe:
        for query, given in ((INSERT, {"source": "", "rows": "none"}), ("INSERT INTO nowhere SELECT 1", {})):
            with pytest.raises(DatabaseUnavailableError):
                await scribe.write(query, given)
            await scribe.write(INSERT, values("a"))
    assert len(noted(world)) == 1


async def test_a_connection_that_was_ended_is_made_anew(world):
    async with scribe_open(world.url) as scribe:
        await scribe.write(INSERT, values("a"))
        end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE %s"
        assert world.rows(end, "INSERT INTO noted%") == [(True,)]
        async with asyncio.timeout(60):
            while len(noted(world)) < 2:
                try:
                    await scribe.write(INSERT, values("b"))
                except DatabaseUnavailableError:
                    await asyncio.sleep(0.01)


@pytest.fixture
def frail(world) -> Iterator[tuple[FaultProxy, str]]:
    proxy, url = FaultProxy.before(world.url)
    yield proxy, url
    proxy.stop()


@pytest.mark.parametrize("fault", ["cut", "freeze"])
@pytest.mark.parametrize("is_known", [True, False])
async def test_a_server_that_is_away_is_said_and_found_again(world, frail, fault: str, is_known: bool):
    proxy, url = frail
    async with scribe_open(url, answer_s=0.3) as scribe:
        if is_known:
            await scribe.write(INSERT, values("a"))
        await asyncio.to_thread(getattr(proxy, fault))
        with pytest.raises(DatabaseUnavailableError):
            await scribe.write(INSERT, values("b"))
        await asyncio.to_thread(proxy.heal)
        async with asyncio.timeout(60):
            while not any(row[0] == "c" for row in noted(world)):
                try:
                    await scribe.write(INSERT, values("c"))
                except DatabaseUnavailableError:
                    await asyncio.sleep(0.01)


async def test_whoever_gives_up_leaves_nothing_to_the_next(world):
    async with scribe_open(world.url) as scribe:
        await scribe.write(INSERT, values("a"))
        slow = asyncio.create_task(scribe.write("SELECT pg_sleep(%(s)s::float)", {"s": "30"}))
        sleeping = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE %s AND state = 'active'"
        async with asyncio.timeout(60):
            while not world.value(sleeping, "SELECT pg_sleep%"):
                await asyncio.sleep(0.01)
        slow.cancel()
        await asyncio.wait({slow})
        await scribe.write(INSERT, values("b"))
    assert [row[0] for row in noted(world)] == ["a", "b"]


async def test_a_closed_one_writes_nothing(world):
    async with scribe_open(world.url) as scribe:
        await scribe.write(INSERT, values("a"))
    with pytest.raises(DatabaseUnavailableError):
        await scribe.write(INSERT, values("b"))
    assert len(noted(world)) == 1
