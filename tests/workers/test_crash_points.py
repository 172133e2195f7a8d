"""A process dies at each durable step once; afterwards the books hold every request once, and nothing else."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import httpx
import msgspec
import pytest
import redis

from kindling_billing import holds
from kindling_billing.selectors import balance_get
from kindling_crashes import GATEWAYS, JOBS, Forks, GatewayForks
from kindling_engine.protocol.usage_log import UsageRecord
from kindling_fake_driver import FakeDriver
from kindling_fake_engine import FakeEngine
from kindling_gateway import eventually
from kindling_gpu_time import GPU_POINTS
from kindling_people import Customer, make_customer, make_model, make_operator
from kindling_platform.common.clock import now
from kindling_platform.common.crash_points import KILLED, POINTS
from kindling_platform.deployments.models import Deployment, Replica
from kindling_platform.deployments.proofs import platform_prove
from kindling_platform.gateway.wallets import LEASE_MS
from kindling_platform.usage.models import IdempotentReply, SpooledUsage, UsageCursor, UsageEvent
from kindling_platform.usage.spooled import LOG_WAIT
from kindling_rows import DOLLAR, RECORD_COST_PICOUSD, make_shop
from kindling_workers.booking import spool_carry
from kindling_workers.ingest import logs_ingest
from kindling_workers.valkey import valkey_client
from kindling_workers.wallets import Wallets

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.timeout(120)]
# Each gateway's point, and whether the engine hangs up on the first try, the request has a key, a spool was left.
GATEWAY_POINTS = {
    "spool.opened": "",
    "dispatch.sent": "",
    "spool.checkpointed": "",
    "relay.first": "",
    "relay.last": "",
    "spool.closed": "",
    "ship.inserted": "",
    "ship.marked": "",
    "spool.voided": "cut",
    "retry.moved": "cut",
    "replay.inserted": "left",
    "idempotency.entered": "key",
    "idempotency.taken": "key",
    "idempotency.kept": "key",
}
WORKER_POINTS = ("book.written", "book.committed", "ingest.written", "ingest.committed")
# Tried where batches are, which several processes share.
BATCH_POINTS = ("batch.answered", "batch.put", "batch.written")
NONE = "none"
REPLICA = "rep-1"


def test_every_point_is_tried():
    assert set(POINTS) == {*GATEWAY_POINTS, *WORKER_POINTS, *GPU_POINTS, *BATCH_POINTS}


class World:
    """A customer, a model on a fake engine, and gateways on the test database."""

    def __init__(self, engine: FakeEngine, folder: Path) -> None:
        self.engine = engine
        self.home = folder / "home"
        operator = make_operator()
        model = make_model(operator)
        deployment = Deployment.objects.create(
            organisation=operator.org, model=model, name="d", generation=1, desired_state="running"
        )
        Replica.objects.create(
            deployment=deployment, name=REPLICA, state="ready", url=engine.url, generation=1
        )
        self.customer: Customer = make_customer("ada")
        self.key = self.customer.key()
        self.driver = FakeDriver()
        self.booked = 0
        self.valkey = valkey_client()

    def ask(self, url: str, *, stream: bool, key: str = "") -> tuple[str, bool]:
        """One request's id and whether its answer was complete, as its client saw it."""
        headers = {"Authorization": f"Bearer {self.key}"} | ({"Idempotency-Key": key} if key else {})
        body = {
            "model": "kindling/spark", "max_tokens": 8, "stream": stream,
            "messages": [{"role": "user", "content": "Hello!"}],
        }  # fmt: skip
        request_id = ""
        try:
            with httpx.stream(
                "POST", f"{url}/v1/chat/completions", json=body, headers=headers, timeout=60
            ) as reply:
                request_id = reply.headers.get("x-request-id", "")
                text = reply.read()
                complete = b"[DONE]" in text if stream else reply.status_code == 200
        except httpx.HTTPError:
            return request_id, False
        return request_id, complete

    def settle(self) -> None:
        """What the workers do, until nothing is left to do."""
        wallets = Wallets(self.valkey)
        for record in self.engine.records[self.booked :]:
            self.driver.write(REPLICA, msgspec.convert(record, UsageRecord))
        self.booked = len(self.engine.records)
        logs_ingest(self.driver, wallets)
        spool_carry(wallets)
        SpooledUsage.objects.filter(booked_at=None).update(shipped_at=now() - LOG_WAIT - timedelta(seconds=1))
        spool_carry(wallets)

    def assert_sound(self, seen: list[str]) -> None:
        """Every complete answer is one event; billed is what the engine logged, but for our failures; books agree."""
        events = {str(event.request_id): event for event in UsageEvent.objects.all()}
        logged = {record["request_id"]: record for record in self.engine.records}
        assert set(seen) <= set(events)
        for request_id, event in events.items():
            record = logged.get(request_id)
            if not event.billable:
                assert event.cost_picousd == 0
                assert request_id not in seen
            elif record is None:
                assert (event.completion_tokens, event.prompt_tokens) in {(0, 0), (0, 7)}, (
                    "its last checkpoint"
                )
            else:
                made = (record["prompt_tokens"], record["completion_tokens"])
                assert (event.prompt_tokens, event.completion_tokens) == made
        assert set(logged) <= set(events)
        assert SpooledUsage.objects.filter(booked_at=None).count() == 0
        spent = sum(event.cost_picousd for event in events.values())
        balance = balance_get(owner_id=self.customer.org.id)
        assert balance.picousd == 10**12 - spent
        assert platform_prove().findings == []
        kept, held = self.valkey.hmget(holds.wallet_key(self.customer.org.id), ["b", "h"])
        assert (int(kept), int(held)) == (holds.balance_nano(balance.picousd), self.left_nano(set(events)))
        assert list((self.home / "spool").iterdir()) == []

    def left_nano(self, known: set[str]) -> int:
        """What is held for requests that died before they were spooled: until their leases end, and for no others."""
        total = 0
        for request_id, value in self.valkey.hgetall(holds.holds_key(self.customer.org.id)).items():
            nano, _, expires_ms = value.partition(":")
            assert request_id not in known
            assert int(expires_ms) <= now().timestamp() * 1000 + LEASE_MS
            total += int(nano)
        return total


@pytest.fixture
def valkey() -> Iterator["redis.Redis"]:
    client = valkey_client()
    client.flushdb()
    yield client


@pytest.fixture
def world(valkey: "redis.Redis", tmp_path: Path) -> Iterator[World]:
    with FakeEngine(replica=REPLICA) as engine:
        yield World(engine, tmp_path)


@pytest.fixture
def gateways(world: World, tmp_path: Path) -> Iterator[GatewayForks]:
    with Forks(GATEWAYS, tmp_path / "log", KINDLING_HOME=str(world.home)) as forks:
        yield GatewayForks(forks)


def test_a_gateway_dies_at_each_step_and_the_next_one_puts_it_right(world: World, gateways: GatewayForks):
    seen: list[str] = []
    for point, case in GATEWAY_POINTS.items():
        key = point if case == "key" else ""
        charged = UsageEvent.objects.filter(billable=True).count()
        if case == "left":
            world.ask(gateways.start("spool.closed"), stream=True)
            assert gateways.wait() == KILLED
        world.engine.behaviour.cut_before_first = int(case == "cut")
        world.engine.behaviour.record_before_cut = case == "cut"
        request_id, complete = world.ask(gateways.start(point), stream=not key, key=key)
        assert gateways.wait() == KILLED, point
        seen += [request_id] if complete else []
        IdempotentReply.objects.filter(status=0).update(leased_until=now() - timedelta(seconds=1))
        url = gateways.start(NONE)
        again, complete = world.ask(url, stream=not key, key=key)
        assert complete, point
        seen.append(again)
        eventually(lambda: len(list((world.home / "spool").iterdir())) == 1, seconds=60)
        gateways.stop()
        eventually(lambda: not world.engine.active)
        world.settle()
        world.assert_sound(seen)
        if key:
            assert UsageEvent.objects.filter(billable=True).count() == charged + 1, "one key is charged once"


def test_a_worker_dies_at_each_step_and_the_next_run_puts_it_right(valkey: "redis.Redis", tmp_path: Path):
    shop = make_shop()
    wallets, driver = Wallets(valkey), FakeDriver()
    with Forks(JOBS, tmp_path / "log") as forks:
        for number, point in enumerate(WORKER_POINTS, start=1):
            record = shop.record()
            driver.write(shop.replica, record)
            SpooledUsage.objects.create(
                request_id=record.request_id, source="gateway", verdict="closed", shipped_at=now(),
                record=msgspec.json.encode(record).decode(),
            )  # fmt: skip
            forks.tell([point, point.partition(".")[0], [msgspec.to_builtins(record)]])
            assert forks.read() == KILLED, point
            UsageCursor.objects.filter(source="engine").delete()
            spool_carry(wallets)
            logs_ingest(driver, wallets)
            assert UsageEvent.objects.count() == number
            spent = DOLLAR - balance_get(owner_id=shop.org.id).picousd
            assert spent == number * RECORD_COST_PICOUSD
            assert platform_prove().findings == []
            assert int(valkey.hget(holds.wallet_key(shop.org.id), "b") or 0) == holds.balance_nano(
                DOLLAR - spent
            )
