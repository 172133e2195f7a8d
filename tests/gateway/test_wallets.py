"""Holds of a process over their whole life, against a real Valkey and database."""

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from kindling_billing.admission import BUDGET, HELD, MONEY, SLOTS, Claim, Payer, Verdict
from kindling_billing.admission_scripts import rations_key
from kindling_billing.budgets import spent_keys
from kindling_billing.holds import holds_key
from kindling_billing.limits import Limits, Scope
from kindling_gateway import gateway_env, held_nano
from kindling_platform.gateway import settlements
from kindling_platform.gateway.access_log import make_log
from kindling_platform.gateway.app import SCRIPTS
from kindling_platform.gateway.database import Database
from kindling_platform.gateway.valkey import Valkey, parse_url
from kindling_platform.gateway.wallets import FREE, Wallets


@pytest.fixture
async def wallets(scene) -> AsyncIterator[Wallets]:
    database = Database(scene.world.url)
    valkey = Valkey(gateway_env().redis_url, SCRIPTS)
    opened = Wallets(
        database, valkey, make_log("error"), lease_ms=30_000, renew_every_s=0.05, look_every_s=0.05
    )
    await database.open()
    await valkey.open()
    opened.open()
    yield opened
    await opened.close()
    await valkey.close()
    await database.close()


async def acquire(wallets: Wallets, owner_id: str, request_id: str, nano: int, *scopes: Scope) -> Verdict:
    claim = Claim(
        request_id, prompt_picousd=nano * 1000, price_picousd=0, tokens=0, least=0, units=(1, 0, 0, 0)
    )
    return await wallets.admit(Payer(owner_id, "key_1", 1, scopes), claim)


def expiry(scene, request_id: str) -> int:
    return int((scene.valkey.hget(holds_key(scene.customer.id), request_id) or b":0").split(b":")[1])


async def until(check) -> None:
    async with asyncio.timeout(60):
        while not check():
            await asyncio.sleep(0.02)


async def test_a_request_that_runs_long_keeps_its_hold(wallets: Wallets, scene):
    assert (await acquire(wallets, scene.customer.id, "r1", 5)).state == HELD
    first = expiry(scene, "r1")
    await until(lambda: expiry(scene, "r1") > first + 100)
    assert held_nano(scene.valkey, scene.customer) == {"r1": 5}


async def test_what_ends_waits_for_company_but_the_last_for_none(
    wallets: Wallets, scene, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(settlements, "WITHIN_S", 60.0)
    payer = Payer(scene.customer.id, "key_1", 1)
    for name in ("r1", "r2"):
        await acquire(wallets, scene.customer.id, name, 5)
    wallets.settle(payer, "r1", FREE)
    assert held_nano(scene.valkey, scene.customer) == {"r1": 5, "r2": 5}
    wallets.settle(payer, "r2", FREE)
    await until(lambda: held_nano(scene.valkey, scene.customer) == {})


async def test_closing_waits_for_what_is_being_settled(wallets: Wallets, scene):
    payer = Payer(scene.customer.id, "key_1", 1)
    for number in range(50):
        await acquire(wallets, scene.customer.id, f"r{number}", 5)
        wallets.settle(payer, f"r{number}", 2)
    await wallets.close()
    assert set(held_nano(scene.valkey, scene.customer).values()) == {2}


async def test_whoever_comes_after_another_has_ended_finds_its_place_free(wallets: Wallets, scene):
    scope = Scope("key", f"key_{scene.customer.id}", Limits(concurrent_requests=1))
    payer = Payer(scene.customer.id, "key_1", 1, (scope,))
    for number in range(50):
        assert (await acquire(wallets, scene.customer.id, f"r{number}", 5, scope)).state == HELD
        assert (await acquire(wallets, scene.customer.id, "late", 5, scope)).state == SLOTS
        wallets.settle(payer, f"r{number}", 2)


async def test_a_crowd_that_ends_together_is_settled_to_the_last(wallets: Wallets, scene):
    names = [f"r{number}" for number in range(300)]
    await asyncio.gather(*(acquire(wallets, scene.customer.id, name, 5) for name in names))
    payer = Payer(scene.customer.id, "key_1", 1)
    for name in names:
        wallets.settle(payer, name, 2)
    await until(lambda: 5 not in held_nano(scene.valkey, scene.customer).values())
    assert held_nano(scene.valkey, scene.customer) == dict.fromkeys(names, 2)


async def test_a_cut_request_keeps_all_that_it_held(wallets: Wallets, scene):
    await acquire(wallets, scene.customer.id, "r1", 7)
    wallets.settle(Payer(scene.customer.id, "key_1", 1), "r1", None)
    await wallets.close()
    assert held_nano(scene.valkey, scene.customer) == {"r1": 7}


async def test_what_a_request_has_cost_stays_held_while_the_rater_is_away(wallets: Wallets, scene):
    """Else the same money could be spent again as soon as the hold is over."""
    scope = Scope("key", f"key_{scene.customer.id}", Limits(budget_month_nano=10**9))
    await acquire(wallets, scene.customer.id, "r1", 7, scope)
    wallets.settle(Payer(scene.customer.id, "key_1", 1, (scope,)), "r1", 5)
    await wallets.close()
    hours_later_ms = (time.time() + 12 * 3600) * 1000
    assert expiry(scene, "r1") > hours_later_ms
    spending = spent_keys(scope.name)[1]
    assert int(scene.valkey.hget(spending, "r1").split(b":")[1]) > hours_later_ms
    assert scene.valkey.pexpiretime(spending) > hours_later_ms


async def test_a_free_request_keeps_nothing_even_if_nobody_saw_it_begin(wallets: Wallets, scene):
    await acquire(wallets, scene.customer.id, "r1", 7)
    other = Wallets(wallets._database, wallets._valkey, make_log("error"))
    other.settle(Payer(scene.customer.id, "key_1", 1), "r1", FREE)
    await other.close()
    assert held_nano(scene.valkey, scene.customer) == {}


async def test_an_emptied_valkey_hears_of_running_requests_again(wallets: Wallets, scene):
    await acquire(wallets, scene.customer.id, "r1", 7)
    await until(lambda: wallets._mark and scene.valkey.get("kd:mark") == wallets._mark.encode())
    scene.valkey.flushall()
    await until(lambda: held_nano(scene.valkey, scene.customer) == {"r1": 7})
    assert (await acquire(wallets, scene.customer.id, "r2", 10**9 - 6)).state == MONEY
    assert (await acquire(wallets, scene.customer.id, "r2", 10**9 - 7)).state == HELD


async def test_what_a_budget_has_spent_is_read_from_the_books(wallets: Wallets, scene):
    scope = Scope("key", f"key_{scene.customer.id}", Limits(budget_month_nano=100))
    scene.world.execute(
        "INSERT INTO gateway_spending VALUES (%s, %s, NULL, now(), 60000), (%s, 'another', NULL, now(), 9000),"
        " (%s, %s, NULL, now() - interval '40 days', 50000)",
        scene.customer.id, scope.id, scene.customer.id, scene.customer.id, scope.id,
    )  # fmt: skip
    verdict = await acquire(wallets, scene.customer.id, "r1", 41, scope)
    assert (verdict.state, verdict.left_nano) == (BUDGET, 40)
    assert (await acquire(wallets, scene.customer.id, "r1", 40, scope)).state == HELD
    assert scene.valkey.hget(spent_keys(scope.name)[0], "t") == b"110"


async def test_money_that_came_in_is_found_when_a_hold_is_refused(wallets: Wallets, scene):
    poor = scene.world.org(f"poor-{scene.customer.slug}", usd=0)
    assert (await acquire(wallets, poor.id, "r1", 5)).state == MONEY
    scene.world.execute(
        "UPDATE gateway_balance SET balance_picousd = 9000, version = 2 WHERE org_id = %s", poor.id
    )
    async with asyncio.timeout(60):
        while (await acquire(wallets, poor.id, "r1", 5)).state == MONEY:
            await asyncio.sleep(0.05)
    assert held_nano(scene.valkey, poor) == {"r1": 5}


async def test_what_is_set_aside_without_its_process_knowing_is_given_back_too(wallets: Wallets, scene):
    """Valkey's answer that told of it came too late."""
    rations, mine = rations_key(scene.customer.id), wallets._process
    scene.valkey.hset(rations, mine, f"500:{int(time.time() + 300) * 1000}")
    scene.valkey.zadd("kd:recalls", {scene.customer.id: int(time.time() * 1000)})
    await until(lambda: not scene.valkey.hexists(rations, mine))
    assert (await acquire(wallets, scene.customer.id, "r1", 5)).state == HELD


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
