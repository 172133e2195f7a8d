"""What should run: asked for by people, written by workers that hold the lease."""

import pytest

from kindling_gpu_time import gpu_price
from kindling_people import Customer, make_customer, make_model
from kindling_platform.accounts.models import Organisation
from kindling_platform.audit.models import AuditEvent
from kindling_platform.common.clock import now
from kindling_platform.common.errors import KindlingError
from kindling_platform.common.leases import lease_release
from kindling_platform.deployments.models import Deployment, DeploymentEvent, Replica
from kindling_platform.deployments.selectors import (
    deployment_get,
    deployment_list,
    deployment_list_unsettled,
    deployment_list_visible,
    event_list,
)
from kindling_platform.deployments.services import (
    deployment_apply,
    deployment_change,
    deployment_create,
    deployment_delete,
    deployment_ensure,
    deployment_halt,
    deployment_lease,
    deployment_start,
    deployment_stop,
    replica_observe,
)
from kindling_workers.replicas import replicas_wanted

pytestmark = pytest.mark.django_db


@pytest.fixture
def deployment(operator: Customer) -> Deployment:
    return deployment_ensure(org=operator.org, model=make_model(operator), name="spark", actor=operator.actor)


def refusal(work) -> str:
    with pytest.raises(KindlingError) as refused:
        work()
    return refused.value.code


def test_ensuring_twice_is_once_and_another_model_is_a_new_generation(
    operator: Customer, deployment: Deployment
):
    again = deployment_ensure(org=operator.org, model=deployment.model, name="spark", actor=operator.actor)
    assert (again.id, again.generation) == (deployment.id, 1)
    other = make_model(operator, "other")
    changed = deployment_ensure(org=operator.org, model=other, name="spark", actor=operator.actor)
    assert (changed.id, changed.generation, changed.model_id) == (deployment.id, 2, other.id)


def test_another_form_of_weights_is_a_new_generation(operator: Customer, deployment: Deployment):
    def ensure(weights: str, replicas: int = 1) -> tuple[str, int]:
        found = deployment_ensure(
            org=operator.org, model=deployment.model, name="spark", actor=operator.actor, replicas=replicas,
            weights=weights,
        )  # fmt: skip
        return found.weights, found.generation

    assert ensure("checkpoint") == ("checkpoint", 1)
    assert ensure("int8wo") == ensure("int8wo") == ("int8wo", 2)
    assert ensure("int8wo", replicas=2) == ("int8wo", 2)
    assert event_list(deployment=deployment)[0].message.endswith("2 replicas, weights as int8wo.")
    assert refusal(lambda: ensure("int3")) == "weights_unknown"
    assert ensure("checkpoint", replicas=2) == ("checkpoint", 3)


def test_a_change_leaves_out_what_is_not_named(operator: Customer, deployment: Deployment):
    def change(**what) -> tuple[int, str, int]:
        found = deployment_change(org=operator.org, deployment_id=deployment.id, actor=operator.actor, **what)
        return found.desired_replicas, found.weights, found.generation

    assert change(replicas=3) == (3, "checkpoint", 1)
    assert change(weights="int8wo") == (3, "int8wo", 2)
    events = len(event_list(deployment=deployment))
    assert change() == change(replicas=3, weights="int8wo") == (3, "int8wo", 2)
    assert len(event_list(deployment=deployment)) == events
    assert refusal(lambda: change(replicas=0)) == "replicas_invalid"
    assert refusal(lambda: change(weights="int3")) == "weights_unknown"
    assert change(kv_dtype="fp8") == change(kv_dtype="fp8", replicas=3) == (3, "int8wo", 3)
    assert event_list(deployment=deployment)[0].message.endswith("weights as int8wo, keys and values as fp8.")
    (wanted, *_) = replicas_wanted(deployment_get(org=operator.org, deployment_id=deployment.id)).values()
    assert (wanted.spec.weights, wanted.spec.kv_dtype) == ("int8wo", "fp8")
    assert refusal(lambda: change(kv_dtype="bf16")) == "kv_dtype_unknown"
    # The next start of the platform ensures its own deployment, and keeps what was chosen here.
    kept = deployment_ensure(org=operator.org, model=deployment.model, name="spark", actor=operator.actor)
    assert (kept.desired_replicas, kept.kv_dtype) == (3, "fp8")


def test_customers_change_nothing_of_theirs_or_of_others(
    operator: Customer, ada: Customer, deployment: Deployment
):
    gpu_price(deployment.model_id, since=now())
    mine = deployment_ensure(org=ada.org, model=deployment.model, name="mine", actor=ada.actor)

    def change(org: Organisation | None, of: Deployment) -> int:
        return deployment_change(
            org=org, deployment_id=of.id, replicas=2, actor=operator.actor
        ).desired_replicas

    assert refusal(lambda: change(ada.org, mine)) == "deployments_closed"
    assert refusal(lambda: change(ada.org, deployment)) == "not_found"
    assert refusal(lambda: change(operator.org, mine)) == "not_found"
    assert change(None, mine) == 2
    event = AuditEvent.objects.get(action="deployment.change", target=mine.id)
    assert event.organisation_id == ada.org.id


def test_what_is_deleted_is_wound_down_and_in_no_list(operator: Customer, deployment: Deployment):
    replica_observe(deployment=deployment, name="r", generation=1, rank=0, state="ready", pid=1)
    deployment_delete(org=operator.org, deployment_id=deployment.id, actor=operator.actor)
    assert deployment_list_unsettled() == [deployment.id]
    assert not deployment_list().exists() and not deployment_list_visible(org=operator.org).exists()
    for act in (deployment_get, deployment_start, deployment_stop, deployment_delete, deployment_change):
        actor = {} if act is deployment_get else {"actor": operator.actor}
        assert (
            refusal(lambda act=act, actor=actor: act(org=None, deployment_id=deployment.id, **actor))
            == "not_found"
        )
    assert not deployment_halt(deployment_id=deployment.id, reason="No credit.")
    again = deployment_ensure(org=operator.org, model=deployment.model, name="spark", actor=operator.actor)
    assert again.id != deployment.id
    assert AuditEvent.objects.filter(action="deployment.deleted", target=deployment.id).count() == 1


def test_changes_wake_the_reconciler_after_the_commit(
    operator: Customer, deployment: Deployment, django_capture_on_commit_callbacks
):
    with django_capture_on_commit_callbacks() as jobs:
        deployment_stop(org=operator.org, deployment_id=deployment.id, actor=operator.actor)
    assert len(jobs) == 1


def test_only_the_operator_starts_engines(operator: Customer, ada: Customer):
    make_model(operator)

    def create(owner: Customer, name: str = "mine") -> Deployment:
        return deployment_create(org=owner.org, model_ref="kindling/spark", name=name, actor=owner.actor)

    assert refusal(lambda: create(ada)) == "deployments_closed"
    assert create(operator).desired_state == "running"
    assert refusal(lambda: create(operator)) == "deployment_exists"
    assert refusal(lambda: create(operator, "No Good")) == "name_invalid"


@pytest.mark.parametrize("replicas", [0, -1, 65])
def test_replicas_have_bounds(operator: Customer, replicas: int):
    model = make_model(operator)

    def ensure() -> None:
        deployment_ensure(org=operator.org, model=model, name="d", replicas=replicas, actor=operator.actor)

    assert refusal(ensure) == "replicas_invalid"


def test_a_stopped_deployment_is_settled_once_its_replicas_are_gone(
    operator: Customer, deployment: Deployment
):
    assert deployment_list_unsettled() == [deployment.id]
    deployment_stop(org=operator.org, deployment_id=deployment.id, actor=operator.actor)
    token = deployment_lease(deployment_id=deployment.id, ttl_s=5)
    assert token
    assert deployment_apply(deployment_id=deployment.id, token=token, state="stopped", reason="")
    assert deployment_list_unsettled() == []
    deployment_start(org=operator.org, deployment_id=deployment.id, actor=operator.actor)
    assert deployment_list_unsettled() == [deployment.id]


def test_one_lease_at_a_time_and_only_its_holder_writes(deployment: Deployment):
    token = deployment_lease(deployment_id=deployment.id, ttl_s=30)
    assert token
    assert deployment_lease(deployment_id=deployment.id, ttl_s=30) is None
    assert not deployment_apply(deployment_id=deployment.id, token="stolen", state="failed", reason="")
    assert deployment_apply(deployment_id=deployment.id, token=token, state="live", reason="")
    assert not deployment_apply(deployment_id=deployment.id, token=token, state="failed", reason="")
    deployment.refresh_from_db()
    assert deployment.state == "live"


def test_an_expired_lease_may_be_taken_and_its_old_holder_is_too_late(deployment: Deployment):
    old = deployment_lease(deployment_id=deployment.id, ttl_s=-1)
    new = deployment_lease(deployment_id=deployment.id, ttl_s=30)
    assert old and new and old != new
    assert not deployment_apply(deployment_id=deployment.id, token=old, state="failed", reason="")
    assert not lease_release(Deployment.objects, pk=deployment.id, token=old)
    assert lease_release(Deployment.objects, pk=deployment.id, token=new)


def test_a_change_of_state_is_an_event_and_a_repeat_is_not(deployment: Deployment):
    for state in ("starting", "starting", "live", "live"):
        token = deployment_lease(deployment_id=deployment.id, ttl_s=5)
        assert token
        deployment_apply(deployment_id=deployment.id, token=token, state=state, reason="")
    kinds = [event.kind for event in event_list(deployment=deployment)]
    assert kinds.count("starting") == 1
    assert kinds.count("live") == 1


def test_a_restarted_replica_is_told(deployment: Deployment):
    for pid, restarts in ((100, 0), (100, 0), (200, 1)):
        replica_observe(
            deployment=deployment, name="r", generation=1, rank=0, state="ready", pid=pid, restarts=restarts
        )
    assert Replica.objects.count() == 1
    told = DeploymentEvent.objects.get(kind="restarted")
    assert told.message == "Replica 0 died and was started again."


def test_a_public_models_deployment_for_one_organisation_is_seen_by_that_one_alone(
    operator: Customer, ada: Customer, deployment: Deployment
):
    own = Deployment.objects.create(organisation=ada.org, model=deployment.model, name="night-shift")
    bob = make_customer("bob")
    assert set(deployment_list_visible(org=ada.org)) == {deployment, own}
    assert set(deployment_list_visible(org=bob.org)) == {deployment}
    assert set(deployment_list_visible(org=operator.org)) == {deployment}


def test_others_see_public_models_running_and_cannot_touch_them(ada: Customer, deployment: Deployment):
    assert [row.id for row in deployment_list_visible(org=ada.org)] == [deployment.id]
    assert list(deployment_list(org=ada.org)) == []
    assert refusal(lambda: deployment_get(org=ada.org, deployment_id=deployment.id)) == "not_found"
    for act in (deployment_start, deployment_stop):
        assert (
            refusal(lambda act=act: act(org=ada.org, deployment_id=deployment.id, actor=ada.actor))
            == "not_found"
        )
