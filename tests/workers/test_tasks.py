"""The tasks as Celery calls them: names, the environment's driver, wake-ups that expire, runs that overlap."""

import json
import threading
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from django.db import connection

from kindling_agent import AgentProcess, eventually
from kindling_billing.models import LedgerTransaction
from kindling_fake_driver import FakeDriver
from kindling_platform.deployments.models import Deployment, Replica
from kindling_platform.usage.models import UsageEvent
from kindling_rows import Shop, make_adapter, make_shop
from kindling_workers.app import app
from kindling_workers.beat import QUEUE
from kindling_workers.http import http_call
from kindling_workers.tasks import adapters, deployments, usage, wallets
from kindling_workers.valkey import valkey_client

pytestmark = pytest.mark.django_db(transaction=True)
NAMES = {
    "adapters.fetch", "adapters.validate", "adapters.sweep", "adapters.store", "adapters.tidy",
    "books.chase", "books.expire", "books.invoice",
    "books.prove", "books.rerate", "catalog.measure", "departures.sweep", "departures.tidy", "deployments.bill",
    "deployments.meter", "deployments.reconcile", "deployments.sweep", "usage.book", "usage.compare", "usage.ingest",
    "hooks.batches", "hooks.deliver",
    "limits.alerts", "responses.purge", "retention.sweep", "seeing.expire", "status.sample", "wallets.refresh",
    "payments.events", "payments.invoices", "payments.letters", "payments.reconcile", "payments.sweep",
    "payments.tell_wallet", "payments.topups",
}  # fmt: skip


@pytest.fixture
def agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[AgentProcess]:
    running = AgentProcess(tmp_path / "home")
    running.start()
    monkeypatch.setenv("KINDLING_AGENT_URL", running.url)
    monkeypatch.setenv("KINDLING_AGENT_TOKEN", running.token)
    yield running
    running.stop()


@pytest.fixture
def shop() -> Shop:
    return make_shop()


@pytest.fixture(autouse=True)
def queue() -> Iterator[None]:
    valkey_client().flushdb()
    yield
    valkey_client().flushdb()


def waiting() -> list[tuple[str, dict[str, object]]]:
    """(task, headers) of the messages in the queue."""
    messages = [json.loads(raw) for raw in valkey_client().lrange(QUEUE, 0, -1)]
    return [(message["headers"]["task"], message["headers"]) for message in messages]


def test_the_agreed_tasks_exist():
    app.loader.import_default_modules()
    assert {name for name in app.tasks if not name.startswith("celery.")} == NAMES
    assert all(app.tasks[name].acks_late and app.tasks[name].ignore_result for name in NAMES)


def test_sweeps_wake_what_is_not_where_it_should_be(agent: AgentProcess, shop: Shop):
    settled = make_shop()
    Deployment.objects.filter(id=settled.deployment.id).update(desired_state="stopped", state="stopped")
    adapter = make_adapter(shop)
    deployments.sweep()
    adapters.sweep()
    seen = dict(waiting())
    assert set(seen) == {"deployments.reconcile", "adapters.validate"}
    assert shop.deployment.id in str(seen["deployments.reconcile"]["kwargsrepr"])
    assert adapter.id in str(seen["adapters.validate"]["kwargsrepr"])
    assert all(headers["expires"] for headers in seen.values())


def test_what_starts_is_looked_at_again_before_the_next_sweep(monkeypatch: pytest.MonkeyPatch, shop: Shop):
    driver = FakeDriver()
    driver.never_ready = True
    monkeypatch.setattr(deployments, "driver_get", lambda: driver)
    deployments.reconcile(deployment_id=shop.deployment.id)
    ((name, headers),) = waiting()
    assert (
        name == "deployments.reconcile"
        and headers["eta"]
        and f"'looks': {deployments.LOOKS - 1}" in str(headers)
    )
    valkey_client().flushdb()
    deployments.reconcile(deployment_id=shop.deployment.id, looks=0)
    assert waiting() == []
    driver.never_ready = False
    while Deployment.objects.get(id=shop.deployment.id).state != "live":
        deployments.reconcile(deployment_id=shop.deployment.id, looks=0)
    deployments.reconcile(deployment_id=shop.deployment.id)
    assert waiting() == []


def test_a_sweep_goes_on_without_the_agent(monkeypatch: pytest.MonkeyPatch, shop: Shop):
    monkeypatch.setenv("KINDLING_AGENT_URL", "http://127.0.0.1:9")
    deployments.sweep()
    assert [name for name, _ in waiting()] == ["deployments.reconcile"]
    usage.ingest()
    wallets.refresh()


def test_a_worker_checks_one_adapter_at_a_time(monkeypatch: pytest.MonkeyPatch):
    begun: list[str] = []

    def check(*, adapter_id: str, valkey: object) -> None:
        begun.append(adapter_id)
        adapters.validate(adapter_id="adp_second")

    monkeypatch.setattr(adapters, "adapter_validate", check)
    adapters.validate(adapter_id="adp_first")
    adapters.validate(adapter_id="adp_third")
    assert begun == ["adp_first", "adp_third"]


def test_overlapping_runs_of_every_task_are_harmless(agent: AgentProcess, shop: Shop):
    def live() -> str:
        deployments.reconcile(deployment_id=shop.deployment.id)
        return Deployment.objects.get(id=shop.deployment.id).state

    eventually(live, lambda state: state == "live")
    url = Replica.objects.get(name=shop.replica).url
    for _ in range(30):
        body = json.dumps(msgspec.to_builtins(shop.record())).encode()
        assert http_call("POST", f"{url}/make", body=body).status == 200
    adapter = make_adapter(shop)

    def run_all() -> None:
        try:
            usage.ingest()
            deployments.reconcile(deployment_id=shop.deployment.id)
            adapters.validate(adapter_id=adapter.id)
            wallets.refresh()
        finally:
            connection.close()

    threads = [threading.Thread(target=run_all) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    eventually(
        lambda: (usage.ingest(), UsageEvent.objects.filter(organisation_id=shop.org.id).count())[1],
        lambda count: count == 30,
    )
    posted = LedgerTransaction.objects.filter(source_type="usage", entries__account__owner_id=shop.org.id)
    assert posted.distinct().count() == 30
    assert Replica.objects.filter(deployment=shop.deployment).count() == 1
    assert len(agent.driver.replica_list()) == 1
    adapters.validate(adapter_id=adapter.id)
    adapter.refresh_from_db()
    assert adapter.state == "ready"
