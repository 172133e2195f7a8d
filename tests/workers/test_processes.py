"""Real worker and beat processes on a real broker, a real agent with obedient engines, and a kill at every turn."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest
import redis

from kindling_admission import hold_place
from kindling_agent import AgentProcess, eventually
from kindling_billing import holds
from kindling_billing.models import LedgerTransaction
from kindling_billing.selectors import balance_get
from kindling_engine.protocol.usage_log import UsageRecord
from kindling_platform.adapters.models import Adapter
from kindling_platform.deployments.models import Deployment, DeploymentEvent, Replica
from kindling_platform.embedded.ports import PortHold, hold_port
from kindling_platform.embedded.valkey import ValkeyServer
from kindling_platform.usage.models import UsageEvent
from kindling_rows import DOLLAR, RECORD_COST_PICOUSD, Shop, make_adapter, make_shop
from kindling_worker import BEAT, WORKER, CeleryProcess, Nursery, worker_env
from kindling_workers.beat import MAX_WAITING, QUEUE
from kindling_workers.http import http_call
from kindling_workers.schedule import BEAT_SCHEDULE

PASSWORD = "secret"
pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.timeout(120)]

# The worker as it is, except that it dies in the gap between the commit and the word to Valkey.
DIES_BEFORE_TELLING = """
import os
from kindling_workers.app import app
from kindling_workers.ingest import _LogIngest
_LogIngest._tell = lambda self, result: os._exit(137)
app.worker_main(["worker", "-P", "threads", "-c", "1", "--without-gossip", "--without-mingle"])
"""


@dataclass(slots=True)
class Ground:
    """What stays the same for all tests of this file: addresses, and the process that workers come from."""

    hold: PortHold
    agent: AgentProcess
    settings: dict[str, str]
    nursery: Nursery


class Plant:
    """A broker, an agent, a worker and a beat of one test."""

    def __init__(self, ground: Ground, folder: Path) -> None:
        folder.chmod(0o755)
        self.folder = folder
        self.settings = ground.settings
        self.valkey = ValkeyServer(folder / "valkey", ground.hold.port, PASSWORD, folder / "valkey.log")
        self.agent = ground.agent
        self.agent.home = folder / "home"
        self.worker = CeleryProcess(ground.nursery, WORKER, folder / "worker.log")
        self.beat = CeleryProcess(ground.nursery, BEAT, folder / "beat.log")

    def start(self) -> None:
        self.valkey.start()
        self.agent.start()
        self.worker.start()
        self.beat.start()

    def stop(self) -> None:
        # A polite end takes seconds and proves nothing here.
        self.beat.kill()
        self.worker.kill()
        self.agent.kill()
        self.valkey.kill()

    def client(self) -> "redis.Redis":
        return redis.Redis.from_url(self.valkey.url(), decode_responses=True)

    def make(self, record: UsageRecord) -> None:
        """Have the engine log a request."""
        url = Replica.objects.get(name=record.replica).url
        body = json.dumps(msgspec.to_builtins(record)).encode()
        assert http_call("POST", f"{url}/make", body=body).status == 200


@pytest.fixture(scope="module")
def ground(django_db_setup: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ground]:
    folder, hold = tmp_path_factory.mktemp("ground"), hold_port()
    agent = AgentProcess(folder)
    settings = {
        "KINDLING_REDIS_URL": ValkeyServer(folder, hold.port, PASSWORD, folder / "log").url(),
        "KINDLING_AGENT_URL": agent.url,
        "KINDLING_AGENT_TOKEN": agent.token,
    }
    nursery = Nursery(folder / "nursery.log", **settings)
    yield Ground(hold, agent, settings, nursery)
    nursery.close()
    agent.stop()
    hold.release()


@pytest.fixture
def plant(transactional_db: None, ground: Ground, tmp_path: Path) -> Iterator[Plant]:
    running = Plant(ground, tmp_path)
    try:
        running.start()
        yield running
    finally:
        running.stop()


@pytest.fixture
def shop(transactional_db: None) -> Shop:
    return make_shop()


def state_of(shop: Shop) -> str:
    return Deployment.objects.get(id=shop.deployment.id).state


def wait_live(shop: Shop) -> None:
    eventually(lambda: state_of(shop), lambda state: state == "live", seconds=60)


def wait_billed(shop: Shop, requests: int, *, seconds: float = 60) -> None:
    posted = LedgerTransaction.objects.filter(source_type="usage", entries__account__owner_id=shop.org.id)
    eventually(lambda: posted.distinct().count(), lambda count: count >= requests, seconds=seconds)
    assert posted.distinct().count() == requests
    assert UsageEvent.objects.filter(organisation_id=shop.org.id).count() == requests
    assert balance_get(owner_id=shop.org.id).picousd == DOLLAR - requests * RECORD_COST_PICOUSD


def test_ticks_bring_a_deployment_live_an_adapter_ready_and_a_request_billed(plant: Plant, shop: Shop):
    wait_live(shop)
    adapter = make_adapter(shop)
    for _ in range(3):
        plant.make(shop.record())
    wait_billed(shop, 3)
    eventually(lambda: Adapter.objects.get(id=adapter.id).state, lambda state: state == "ready", seconds=60)


def test_a_killed_engine_is_recorded_and_back(plant: Plant, shop: Shop):
    wait_live(shop)
    plant.make(shop.record())
    old = Replica.objects.get(name=shop.replica).pid
    assert old
    os.kill(old, signal.SIGKILL)
    replica = eventually(
        lambda: Replica.objects.get(name=shop.replica),
        lambda row: row.state == "ready" and row.pid != old,
        seconds=60,
    )
    assert (replica.restarts, replica.generation) == (1, 1)
    restarts = DeploymentEvent.objects.filter(deployment=shop.deployment, kind="restarted")
    eventually(restarts.count, lambda count: count == 1)
    plant.make(shop.record())
    wait_billed(shop, 2)


def test_a_worker_killed_between_commit_and_valkey_doubles_nothing(plant: Plant, shop: Shop):
    wait_live(shop)
    plant.worker.kill()
    client = plant.client()
    record = shop.record()
    hold_place(client, shop.org.id, record.request_id, nano=9_000, picousd=DOLLAR)
    plant.make(record)

    with (plant.folder / "dying.log").open("wb") as log:
        dying = subprocess.run(
            [sys.executable, "-c", DIES_BEFORE_TELLING],
            env=worker_env(**plant.settings), stdout=log, stderr=log, timeout=60, check=False,
        )  # fmt: skip
    assert dying.returncode == 137
    wait_billed(shop, 1)
    assert client.hget(holds.wallet_key(shop.org.id), "b") == str(DOLLAR // 1000), "nobody told Valkey"

    plant.worker.start()
    expected = [str((DOLLAR - RECORD_COST_PICOUSD) // 1000), "0"]
    wallet: Any = eventually(
        lambda: client.hmget(holds.wallet_key(shop.org.id), ["b", "h"]),
        lambda seen: seen == expected,
        seconds=60,
    )
    assert wallet == expected
    plant.make(shop.record())
    wait_billed(shop, 2)


def test_beat_does_not_flood_a_queue_that_nobody_empties(plant: Plant):
    plant.worker.kill()
    client = plant.client()
    client.rpush(QUEUE, *["{}"] * MAX_WAITING)
    eventually(lambda: plant.beat.log.read_text(), lambda text: "no worker takes them" in text, seconds=60)
    assert client.llen(QUEUE) <= MAX_WAITING + len(BEAT_SCHEDULE)
    client.delete(QUEUE)
    eventually(lambda: client.llen(QUEUE), bool, seconds=60)


def test_a_wiped_broker_delays_by_a_sweep(plant: Plant, shop: Shop):
    wait_live(shop)
    plant.client().flushall()
    other = make_shop()
    plant.make(shop.record())
    wait_live(other)
    wait_billed(shop, 1)


def test_a_killed_and_empty_broker_is_found_again_by_worker_and_beat(plant: Plant, shop: Shop):
    wait_live(shop)
    plant.valkey.kill()
    plant.make(shop.record())
    plant.valkey.start()
    other = make_shop()
    wait_billed(shop, 1, seconds=60)
    wait_live(other)


def test_a_killed_worker_and_beat_go_on_where_they_were(plant: Plant, shop: Shop):
    wait_live(shop)
    plant.worker.kill()
    plant.beat.kill()
    plant.make(shop.record())
    plant.worker.start()
    plant.beat.start()
    wait_billed(shop, 1, seconds=60)
