"""Holds of requests whose ends Valkey heard of late, when the books may already know them."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest

from kindling_billing import budgets, holds
from kindling_billing.admission import HELD, Claim, Payer
from kindling_billing.limits import Limits, Scope
from kindling_gateway import gateway_env, held_nano
from kindling_platform.gateway.access_log import make_log
from kindling_platform.gateway.app import SCRIPTS
from kindling_platform.gateway.database import Database
from kindling_platform.gateway.valkey import Valkey
from kindling_platform.gateway.wallets import Wallets

COST_NANO = 2_000
PAUSE_MS = 1500


@dataclass(slots=True)
class Desk:
    """A process' wallets, with a request that was admitted while Valkey said nothing."""

    wallets: Wallets
    valkey: Valkey
    payer: Payer
    late_id: str

    async def settle(self) -> None:
        """End the late request, and wait until Valkey knows and all is looked at."""
        self.wallets.settle(self.payer, self.late_id, COST_NANO)
        await self.told()

    async def told(self) -> None:
        async with asyncio.timeout(60):
            while not self.wallets._is_current() or self.wallets._settlements.owes:
                await asyncio.sleep(0.02)
        await self.wallets.close()


@pytest.fixture(autouse=True)
def patience() -> None:
    """Valkey has the time to answer here that it has anywhere."""


@pytest.fixture
async def desk(scene) -> AsyncIterator[Desk]:
    scope = Scope("key", f"key_{scene.customer.id}", Limits(budget_total_nano=10**8))
    payer = Payer(scene.customer.id, "key_1", 1, (scope,))
    database, valkey = Database(scene.world.url), Valkey(gateway_env().redis_url, SCRIPTS)
    wallets = Wallets(database, valkey, make_log("error"))
    await database.open()
    await valkey.open()
    first, late_id = str(uuid.uuid4()), str(uuid.uuid4())
    assert (await admit(wallets, payer, first)).now_us > 0
    wallets.settle(payer, first, -1)
    await asyncio.to_thread(scene.valkey.client_pause, PAUSE_MS)
    assert (await admit(wallets, payer, late_id)).now_us == 0  # by this process alone
    yield Desk(wallets, valkey, payer, late_id)
    await wallets.close()
    await valkey.close()
    await database.close()


async def admit(wallets: Wallets, payer: Payer, request_id: str):
    claim = Claim(
        request_id, prompt_picousd=COST_NANO * 1000, price_picousd=0, tokens=0, least=0, units=(1, 0, 0, 0)
    )
    verdict = await wallets.admit(payer, claim)
    assert verdict.state == HELD
    return verdict


def post(scene, request_id: str) -> None:
    """What the rater does: the books first, then Valkey."""
    scene.world.execute("INSERT INTO gateway_posted VALUES (%s, %s)", scene.customer.id, request_id)
    scene.world.execute(
        "INSERT INTO gateway_spending VALUES (%s, %s, NULL, now(), %s)",
        scene.customer.id, f"key_{scene.customer.id}", COST_NANO * 1000,
    )  # fmt: skip
    scene.world.execute(
        "UPDATE gateway_balance SET balance_picousd = balance_picousd - %s, version = 2 WHERE org_id = %s",
        COST_NANO * 1000, scene.customer.id,
    )  # fmt: skip


def spending(scene, payer: Payer) -> tuple[int, int]:
    """What the budget's scope has spent, and what it holds besides."""
    spent = budgets.spent_keys(payer.scopes[0].name)[0]
    return int(scene.valkey.hget(spent, "t")), int(scene.valkey.hget(spent, "h"))


async def test_what_is_posted_already_leaves_no_hold_behind(desk: Desk, scene):
    post(scene, desk.late_id)
    await desk.settle()
    assert held_nano(scene.valkey, scene.customer) == {}
    assert spending(scene, desk.payer) == (COST_NANO, 0)
    # The rater's word never came: the balance is the one that the request was charged to all the same.
    wallet = scene.valkey.hmget(holds.wallet_key(scene.customer.id), ["b", "v", "h"])
    assert [int(field) for field in wallet] == [10**9 - COST_NANO, 2, 0]


async def test_what_is_not_posted_keeps_its_hold_until_it_is(desk: Desk, scene):
    await desk.settle()
    assert held_nano(scene.valkey, scene.customer) == {desk.late_id: COST_NANO}
    assert spending(scene, desk.payer) == (0, COST_NANO)


async def test_a_hold_that_the_rater_could_not_reach_goes_as_well(desk: Desk, scene):
    """Valkey knew of the request, and was away when it ended and when it was posted."""
    early_id = str(uuid.uuid4())
    await desk.settle()
    assert (await admit(desk.wallets, desk.payer, early_id)).now_us > 0
    await asyncio.to_thread(scene.valkey.client_pause, PAUSE_MS)
    desk.wallets.settle(desk.payer, early_id, COST_NANO)
    for request_id in (early_id, desk.late_id):
        post(scene, request_id)
    assert not await desk.wallets._run("books", ["kd:none", "kd:none"], [])  # by now nobody answers
    await desk.told()
    held = held_nano(scene.valkey, scene.customer)
    assert early_id not in held


async def test_without_the_books_the_hold_stays(desk: Desk, scene):
    post(scene, desk.late_id)
    await desk.wallets._database.close()
    await desk.settle()
    assert held_nano(scene.valkey, scene.customer) == {desk.late_id: COST_NANO}
