"""Four gateways that share one Valkey: limits, budgets and revocations hold over all of them together."""

import asyncio
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import httpx
import pytest

from kindling_admission import amounts
from kindling_billing.admission_scripts import rations_key
from kindling_billing.limits import burst_of
from kindling_gateway import USD, chat, eventually, held_nano, limit_row
from kindling_gateways import for_seconds, gateway_processes, keep_busy

PROCESSES = 4
INPUT, OUTPUT = 100_000, 100_000_000
WORTH_TOKENS = 100
IDLE_S = 4.0
REFUSALS = 50
PATIENCE_S = 60.0


@dataclass(slots=True)
class Admissions:
    """When calls that were admitted began and ended, by the clock of the clients."""

    began: list[float] = field(default_factory=list)
    ended: list[float] = field(default_factory=list)
    refused: list[float] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)

    async def list_models(self, client: httpx.AsyncClient) -> None:
        """The cheapest call that counts as a request."""
        began = time.monotonic()
        status = (await client.get("/v1/models")).status_code
        self.statuses[status] += 1
        if status == 200:
            self.began.append(began)
            self.ended.append(time.monotonic())
        else:
            self.refused.append(began)

    def assert_exact(self, per_minute: int) -> None:
        """Between 98 and 100 per cent of what the limit and its burst allow in the time that was measured.

        The last refusal ends that time from below: whoever is refused has left nothing, and a crowd that a busy
        machine holds up afterwards may leave something.
        """
        assert set(self.statuses) == {200, 429}
        burst, rate = burst_of(0, per_minute), per_minute / 60
        most = burst + rate * (max(self.ended) - min(self.began)) + 1
        least = 0.98 * (burst + rate * (max(self.refused) - min(self.ended))) - 1
        assert least <= self.statuses[200] <= most


def assert_no_minute_above(admissions: Admissions, per_minute: int) -> None:
    for start in admissions.ended:
        # Admitted between the begin and the end of a call: those that lie inside the minute for certain.
        inside = sum(
            start <= began and ended < start + 60
            for began, ended in zip(admissions.began, admissions.ended, strict=True)
        )
        assert inside <= per_minute + burst_of(0, per_minute)


@pytest.fixture(scope="module")
def urls(shared, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[str]]:
    """The gateways; only keys have limits here."""
    folder = tmp_path_factory.mktemp("gateways")
    without = {"limit_requests_per_minute": 0, "limit_concurrent_requests": 0}
    with gateway_processes(shared.world, PROCESSES, folder, **without) as running:
        yield running


async def test_a_limit_is_one_limit_for_all(scene, urls: list[str]):
    key = scene.world.key(scene.customer, limits=[limit_row("key", requests_per_minute=600)])
    seen, soon, late = Admissions(), for_seconds(2.5), for_seconds(PATIENCE_S)
    # On a machine that is busy otherwise the burst alone lasts longer.
    await keep_busy(
        urls, key, seen.list_models, each=2,
        going=lambda: soon() or (len(seen.refused) < REFUSALS and late()),
    )  # fmt: skip
    seen.assert_exact(600)


@pytest.mark.long
@pytest.mark.timeout(300)
async def test_a_limit_stays_exact_over_more_than_a_minute(scene, urls: list[str]):
    key = scene.world.key(scene.customer, limits=[limit_row("organisation", requests_per_minute=900)])
    seen = Admissions()
    await keep_busy(urls, key, seen.list_models, each=2, going=for_seconds(90))
    seen.assert_exact(900)
    assert_no_minute_above(seen, 900)


@pytest.mark.parametrize("calls", [150, pytest.param(500, marks=pytest.mark.long)])
async def test_a_dollar_is_spent_once_and_nearly_whole(scene, urls: list[str], calls: int):
    model = scene.new_model(scene.engine.url)
    scene.world.execute(
        "UPDATE gateway_model SET output_picousd = %s, cached_input_picousd = %s WHERE name = %s",
        OUTPUT, INPUT, model.partition("/")[2],
    )  # fmt: skip
    scene.engine.behaviour.tokens, scene.engine.behaviour.first_delay_s = WORTH_TOKENS, 0.05
    scene.engine.behaviour.park_s = 0.05
    done, moved_at = 0, time.monotonic()

    async def call(client: httpx.AsyncClient, number: int) -> None:
        nonlocal done, moved_at
        body = chat(model, max_tokens=WORTH_TOKENS, stream=number % 2 == 0)
        while True:
            began = time.monotonic()
            status = (await client.post("/v1/chat/completions", json=body)).status_code
            if status == 200:
                done, moved_at = done + 1, time.monotonic()
                return
            # 503: a crowd kept Valkey from answering in time, and no ration was left.
            assert status in (402, 503)
            # Idle: nothing runs, and what gateways had set aside was given back long ago.
            if status == 402 and began > moved_at + IDLE_S and not scene.engine.active:
                return
            await asyncio.sleep(0.3)

    limits = httpx.Limits(max_connections=200)
    headers = {"Authorization": f"Bearer {scene.key}"}
    clients = [httpx.AsyncClient(base_url=url, headers=headers, timeout=60, limits=limits) for url in urls]
    await asyncio.gather(*(call(clients[number % PROCESSES], number) for number in range(calls)))
    for client in clients:
        await client.aclose()
    cost = sum(
        record["prompt_tokens"] * INPUT + record["completion_tokens"] * OUTPUT
        for record in scene.engine.records
    )
    assert 0.98 * USD <= cost <= USD
    assert 100 <= done < 130


def test_what_one_gateway_sets_aside_is_given_to_another_in_need(scene, urls: list[str]):
    small = scene.world.org("set-aside", usd=0.0004)
    # The last requests buy a part of what they want, and wait for the rest.
    scene.engine.behaviour.park_s = 0.05
    headers = {"Authorization": f"Bearer {scene.world.key(small)}"}

    def ask(url: str) -> int:
        return httpx.post(f"{url}/v1/chat/completions", json=chat(), headers=headers, timeout=60).status_code

    assert ask(urls[0]) == 200
    (kept,) = amounts(scene.valkey, rations_key(small.id)).values()
    assert kept > 15_000

    def is_spent() -> bool:
        is_aside = amounts(scene.valkey, rations_key(small.id))
        return ask(urls[1]) == 402 and not is_aside

    eventually(is_spent)
    assert sum(held_nano(scene.valkey, small).values()) > 400_000 - kept


async def test_a_revoked_key_is_refused_everywhere_within_a_second(scene, urls: list[str]):
    began, revoked_at = time.monotonic(), 0.0
    accepted: list[float] = []

    async def call(client: httpx.AsyncClient) -> None:
        sent = time.monotonic()
        if (await client.post("/v1/chat/completions", json=chat())).status_code == 200:
            accepted.append(sent)

    def going() -> bool:
        now = time.monotonic()
        return now < (revoked_at + 1.5 if revoked_at else began + 60)

    async def revoke() -> None:
        nonlocal revoked_at
        while len(accepted) < 40 and going():
            await asyncio.sleep(0.02)
        await asyncio.to_thread(
            scene.world.execute,
            "UPDATE gateway_key SET revoked = true, epoch = 2 WHERE org_id = %s", scene.customer.id,
        )  # fmt: skip
        key_id = scene.world.value("SELECT key_id FROM gateway_key WHERE org_id = %s", scene.customer.id)
        scene.valkey.set(f"kd:epoch:{key_id}", 2, ex=60)
        revoked_at = time.monotonic()

    await asyncio.gather(keep_busy(urls, scene.key, call, each=2, going=going), revoke())
    assert len(accepted) >= 40
    assert [sent - revoked_at for sent in accepted if sent > revoked_at + 1] == []
