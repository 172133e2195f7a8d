"""The reconciler against a driver that fails on demand: states, events, leases, lost hosts, orphans."""

from datetime import timedelta

import pytest

from kindling_engine.protocol.replica import ReplicaSpec, ReplicaStatus
from kindling_fake_driver import FakeDriver
from kindling_platform.common.clock import now
from kindling_platform.deployments.models import Deployment, DeploymentEvent, Replica
from kindling_platform.deployments.selectors import deployment_list_unsettled
from kindling_platform.deployments.services import deployment_apply, deployment_lease
from kindling_rows import Shop, make_shop
from kindling_workers.drivers.base import DriverUnreachable
from kindling_workers.reconciler import deployment_reconcile, orphans_end

pytestmark = pytest.mark.django_db


@pytest.fixture
def driver() -> FakeDriver:
    return FakeDriver()


@pytest.fixture
def shop() -> Shop:
    return make_shop()


def step(driver: FakeDriver, shop: Shop, times: int = 1) -> Deployment:
    for _ in range(times):
        assert deployment_reconcile(driver, shop.deployment.id)
    shop.deployment.refresh_from_db()
    return shop.deployment


def kinds(shop: Shop) -> list[str]:
    return list(
        DeploymentEvent.objects.filter(deployment=shop.deployment)
        .order_by("created_at", "id")
        .values_list("kind", flat=True)
    )


def age_heartbeats(seconds: float) -> None:
    Replica.objects.update(heartbeat_at=now() - timedelta(seconds=seconds))


def test_a_wanted_deployment_goes_live(driver: FakeDriver, shop: Shop):
    assert step(driver, shop).state == "starting"
    assert "loading" in shop.deployment.reason
    assert step(driver, shop, times=3).state == "live"
    assert shop.deployment.reason == ""

    replica = Replica.objects.get(name=shop.replica)
    assert (replica.state, replica.url, replica.pid) == ("ready", "http://127.0.0.1:1001", 1001)
    assert replica.ready_at is not None
    assert kinds(shop) == ["replica_starting", "starting", "replica_ready", "live"]


def test_a_replica_without_room_waits_with_the_reason_and_starts_later(driver: FakeDriver, shop: Shop):
    driver.full = "There is no room on the machine now."
    assert step(driver, shop, times=2).state == "pending"
    assert shop.deployment.reason == driver.full
    assert Replica.objects.get(name=shop.replica).state == "waiting"
    assert kinds(shop).count("replica_waiting") == 1 and driver.replicas == {}
    driver.full = ""
    assert step(driver, shop, times=3).state == "live"


def test_steps_on_a_settled_deployment_change_nothing(driver: FakeDriver, shop: Shop):
    step(driver, shop, times=3)
    before = kinds(shop)
    step(driver, shop, times=5)
    assert kinds(shop) == before
    assert driver.starts == 1


def test_two_replicas_of_which_one_is_ready_are_degraded(driver: FakeDriver):
    shop = make_shop(replicas=2)
    step(driver, shop, times=4)
    assert shop.deployment.state == "live"
    driver.crash(shop.replica)
    assert step(driver, shop).state == "degraded"
    assert "SIGKILL" in shop.deployment.reason


def test_a_killed_engine_is_recorded_with_its_new_process(driver: FakeDriver, shop: Shop):
    step(driver, shop, times=3)
    driver.crash(shop.replica)
    assert step(driver, shop).state == "degraded"
    assert step(driver, shop, times=3).state == "live"
    replica = Replica.objects.get(name=shop.replica)
    assert (replica.restarts, replica.pid, replica.generation) == (1, 1002, 1)
    event = DeploymentEvent.objects.get(deployment=shop.deployment, kind="restarted")
    assert event.data == {"replica": shop.replica, "pid": 1002, "restarts": 1}


def test_an_engine_that_does_not_start_is_a_failure_with_its_reason(driver: FakeDriver, shop: Shop):
    driver.never_ready = True
    step(driver, shop)
    driver.replicas[shop.replica].state = "failed"
    driver.replicas[shop.replica].reason = "The model folder is empty."
    assert step(driver, shop).state == "failed"
    assert shop.deployment.reason == "The model folder is empty."


@pytest.mark.parametrize("desired", ["stopped", "deleted"])
def test_one_that_should_not_run_stops_and_its_rows_go_later(driver: FakeDriver, shop: Shop, desired: str):
    step(driver, shop, times=3)
    Deployment.objects.filter(id=shop.deployment.id).update(desired_state=desired)
    assert step(driver, shop).state == "stopped"
    assert driver.replicas == {}
    assert Replica.objects.get(name=shop.replica).state == "stopped"

    age_heartbeats(120)
    step(driver, shop)
    assert not Replica.objects.filter(name=shop.replica).exists()
    assert deployment_list_unsettled() == []


def test_a_new_generation_replaces_the_old(driver: FakeDriver, shop: Shop):
    step(driver, shop, times=3)
    assert driver.replicas[shop.replica].spec.weights == "checkpoint"
    Deployment.objects.filter(id=shop.deployment.id).update(generation=2, weights="int8wo")
    step(driver, shop, times=3)
    assert {name: one.spec.weights for name, one in driver.replicas.items()} == {
        f"{shop.deployment.id}-g2-r0": "int8wo"
    }
    assert shop.deployment.state == "live"


def test_fewer_replicas_stop_the_surplus_only(driver: FakeDriver):
    shop = make_shop(replicas=2)
    step(driver, shop, times=4)
    Deployment.objects.filter(id=shop.deployment.id).update(desired_replicas=1)
    step(driver, shop)
    assert list(driver.replicas) == [shop.replica]
    assert driver.starts == 2


def test_a_leased_deployment_is_left_alone(driver: FakeDriver, shop: Shop):
    assert deployment_lease(deployment_id=shop.deployment.id, ttl_s=30)
    assert not deployment_reconcile(driver, shop.deployment.id)
    assert driver.calls == []


def test_a_worker_that_lost_its_lease_writes_nothing(driver: FakeDriver, shop: Shop):
    class Slow(FakeDriver):
        def ensure(self, spec):
            # While the driver takes its time the lease runs out and another worker takes over.
            Deployment.objects.filter(id=shop.deployment.id).update(
                lease_expires_at=now() - timedelta(seconds=1)
            )
            assert deployment_lease(deployment_id=shop.deployment.id, ttl_s=30)
            return super().ensure(spec)

    slow = Slow()
    assert not deployment_reconcile(slow, shop.deployment.id)
    shop.deployment.refresh_from_db()
    assert shop.deployment.state == "pending"
    assert Replica.objects.get(name=shop.replica).pid is None
    assert shop.deployment.lease_token, "the other worker's lease must survive"


def test_an_outcome_under_a_lost_lease_is_not_applied(shop: Shop):
    token = deployment_lease(deployment_id=shop.deployment.id, ttl_s=30)
    assert token
    assert not deployment_apply(deployment_id=shop.deployment.id, token="other", state="live", reason="")
    assert deployment_apply(deployment_id=shop.deployment.id, token=token, state="live", reason="")


def test_a_short_silence_keeps_what_was_ready(driver: FakeDriver, shop: Shop):
    step(driver, shop, times=3)
    driver.down = True
    assert step(driver, shop).state == "live"
    assert "agent" in shop.deployment.reason
    assert Replica.objects.get(name=shop.replica).state == "ready"


def test_a_long_silence_takes_replicas_out_and_an_answer_brings_them_back(driver: FakeDriver, shop: Shop):
    step(driver, shop, times=3)
    driver.down = True
    age_heartbeats(60)
    assert step(driver, shop).state == "degraded"
    replica = Replica.objects.get(name=shop.replica)
    assert replica.state == "failed"
    assert "has not answered since" in replica.reason
    driver.down = False
    assert step(driver, shop, times=2).state == "live"
    assert "restarted" not in kinds(shop)


def test_an_agent_that_was_down_from_the_start_is_named(driver: FakeDriver, shop: Shop):
    driver.down = True
    assert step(driver, shop).state == "pending"
    assert "agent does not answer" in shop.deployment.reason
    driver.down = False
    assert step(driver, shop, times=3).state == "live"


def test_a_refused_replica_does_not_stop_the_others(driver: FakeDriver):
    shop = make_shop(replicas=2)
    driver.broken.add(shop.replica)
    step(driver, shop, times=3)
    assert shop.deployment.state == "degraded"
    assert Replica.objects.get(name=f"{shop.deployment.id}-g1-r1").state == "ready"
    assert "500" in Replica.objects.get(name=shop.replica).reason


def test_what_runs_without_a_row_is_ended(driver: FakeDriver, shop: Shop):
    step(driver, shop, times=3)
    stray = make_shop()
    step(driver, stray, times=3)
    Replica.objects.filter(name=stray.replica).delete()
    assert orphans_end(driver) == [stray.replica]
    assert list(driver.replicas) == [shop.replica]
    assert orphans_end(driver) == []


def test_a_deployment_that_starts_again_is_no_orphan_while_it_does(shop: Shop):
    class Swept(FakeDriver):
        """The sweep looks as soon as an engine runs."""

        def ensure(self, spec: ReplicaSpec) -> ReplicaStatus:
            status = super().ensure(spec)
            assert orphans_end(self) == []
            return status

    driver = Swept()
    step(driver, shop, times=3)
    Deployment.objects.update(desired_state="stopped")
    step(driver, shop)
    assert Replica.objects.get(name=shop.replica).state == "stopped"
    Deployment.objects.update(desired_state="running")
    step(driver, shop)
    assert list(driver.replicas) == [shop.replica]


def test_a_missing_deployment_is_no_error(driver: FakeDriver):
    assert not deployment_reconcile(driver, "dep_gone")
    with pytest.raises(DriverUnreachable):
        driver.down = True
        driver.replica_list()
