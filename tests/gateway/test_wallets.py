"""Holds of a process over their whole life, against a real Valkey and database."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from kindling_billing.holds import HELD, REFUSED, SCRIPTS, holds_key
from kindling_gateway import gateway_env, held_nano
from kindling_platform.gateway.access_log import make_log
from kindling_platform.gateway.app import USED_SCRIPTS
from kindling_platform.gateway.database import Database
from kindling_platform.gateway.valkey import Valkey, parse_url
from kindling_platform.gateway.wallets import Wallets


@pytest.fixture
async def wallets(scene) -> AsyncIterator[Wallets]:
    database = Database(scene.world.url)
    valkey = Valkey(gateway_env().redis_url, {name: SCRIPTS[name] for name in USED_SCRIPTS})
    opened = Wallets(database, valkey, make_log("error"), lease_ms=400, renew_every_s=0.05)
    await database.open()
    await valkey.open()
    opened.open()
    yield opened
    await opened.close()
    await valkey.close()
    await database.close()


def expiry(scene, request_id: str) -> int:
    return int(scene.valkey.hget(holds_key(scene.customer.id), request_id).split(b":")[1])


async def test_a_request_that_runs_long_keeps_its_hold(wallets: Wallets, scene):
    assert (await wallets.acquire(scene.customer.id, "r1", 5)).state == HELD
    first = expiry(scene, "r1")
    async with asyncio.timeout(3):
        while expiry(scene, "r1") <= first + 100:
            await asyncio.sleep(0.02)
    assert held_nano(scene.valkey, scene.customer) == {"r1": 5}


async def test_closing_waits_for_what_is_being_settled(wallets: Wallets, scene):
    for number in range(50):
        await wallets.acquire(scene.customer.id, f"r{number}", 5)
        wallets.settle(scene.customer.id, f"r{number}", 2)
    await wallets.close()
    assert set(held_nano(scene.valkey, scene.customer).values()) == {2}


async def test_a_cut_request_keeps_all_that_it_held(wallets: Wallets, scene):
    await wallets.acquire(scene.customer.id, "r1", 7)
    wallets.settle(scene.customer.id, "r1", None)
    await wallets.close()
    assert held_nano(scene.valkey, scene.customer) == {"r1": 7}


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://127.0.0.1:7000/3", ("127.0.0.1", 7000, "", False, "", "", 3)),
        ("rediss://u:p%40ss@cache.example:6380", ("cache.example", 6380, "", True, "u", "p@ss", 0)),
        ("redis://:secret@cache", ("cache", 6379, "", False, "", "secret", 0)),
        ("unix:///run/valkey.sock", ("127.0.0.1", 6379, "/run/valkey.sock", False, "", "", 0)),
    ],
)
def test_addresses(url: str, expected: tuple):
    seen = parse_url(url)
    assert (
        seen.host,
        seen.port,
        seen.path,
        seen.secure,
        seen.username,
        seen.password,
        seen.database,
    ) == expected


async def test_money_that_came_in_is_found_when_a_hold_is_refused(wallets: Wallets, scene):
    poor = scene.world.org(f"poor-{scene.customer.slug}", usd=0)
    assert (await wallets.acquire(poor.id, "r1", 5)).state == REFUSED
    scene.world.execute(
        "UPDATE gateway_balance SET balance_picousd = 9000, version = 2 WHERE org_id = %s", poor.id
    )
    async with asyncio.timeout(3):
        while (await wallets.acquire(poor.id, "r1", 5)).state == REFUSED:
            await asyncio.sleep(0.05)
    assert held_nano(scene.valkey, poor) == {"r1": 5}
