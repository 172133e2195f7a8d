"""Deployments that organisations make for themselves: what is open to them, within which bounds, and what is kept."""

import threading

import pytest
from django.db import connection

from kindling_billing.terms import terms_set
from kindling_gpu_time import gpu_price
from kindling_people import Customer, make_customer, make_model, make_operator
from kindling_platform.accounts.suspension import organisation_suspend
from kindling_platform.audit.models import AuditEvent
from kindling_platform.catalog.models import Model
from kindling_platform.catalog.services import model_deployable_set
from kindling_platform.common.clock import now
from kindling_platform.common.errors import KindlingError
from kindling_platform.departures.persons import user_delete
from kindling_platform.deployments.allowances import allowance_get
from kindling_platform.deployments.models import Deployment, DeploymentRevision
from kindling_platform.deployments.revisions import revision_list
from kindling_platform.deployments.services import (
    deployment_change,
    deployment_create,
    deployment_delete,
    deployment_ensure,
    deployment_restore,
    deployment_start,
    deployment_stop,
)

pytestmark = pytest.mark.django_db


@pytest.fixture
def model(operator: Customer) -> Model:
    found = make_model(operator, priced=False)
    gpu_price(found.id)
    return model_deployable_set(model_id=found.id, deployable=True, actor=operator.actor)


def allow(customer: Customer, replicas: int) -> None:
    terms_set(owner_id=customer.org.id, own_replicas=replicas)


def create(customer: Customer, name: str = "mine", **what) -> Deployment:
    return deployment_create(
        org=customer.org, model_ref="kindling/spark", name=name, actor=customer.actor, **what
    )


def refusal(work) -> str:
    with pytest.raises(KindlingError) as refused:
        work()
    return refused.value.code


def test_both_the_organisation_and_the_model_have_to_be_open_to_it(
    operator: Customer, ada: Customer, model: Model
):
    assert refusal(lambda: create(ada)) == "deployments_closed"
    allow(ada, 1)
    model_deployable_set(model_id=model.id, deployable=False, actor=operator.actor)
    assert refusal(lambda: create(ada)) == "model_not_deployable"
    model_deployable_set(model_id=model.id, deployable=True, actor=operator.actor)
    organisation_suspend(org=ada.org, reason="Late.", actor=operator.actor)
    assert refusal(lambda: create(ada)) == "account_suspended"
    assert not Deployment.objects.exists()


def test_it_is_made_for_the_one_that_asks_and_for_nobody_else(ada: Customer, bob: Customer, model: Model):
    allow(ada, 2)
    made = create(ada, for_ref=ada.org.slug, replicas=2, weights="fp16")
    assert (made.organisation_id, made.self_made, made.desired_state) == (ada.org.id, True, "running")
    assert refusal(lambda: create(ada, "theirs", for_ref=bob.org.slug)) == "deployments_closed"
    assert refusal(lambda: create(ada, replicas=0)) == "replicas_invalid"
    assert AuditEvent.objects.get(action="deployment.create").organisation_id == ada.org.id


def test_replicas_that_run_are_bounded_over_all_of_its_own(operator: Customer, ada: Customer, model: Model):
    allow(ada, 3)
    # What the operator made for it counts for nothing.
    theirs = deployment_ensure(org=ada.org, model=model, name="given", actor=operator.actor, replicas=5)
    first = create(ada, "first", replicas=2)
    assert refusal(lambda: create(ada, "second", replicas=2)) == "replica_limit"
    second = create(ada, "second", replicas=1)
    assert (allowance_get(org=ada.org).running, allowance_get(org=ada.org).left) == (3, 0)

    def change(replicas: int) -> Deployment:
        return deployment_change(org=ada.org, deployment_id=first.id, actor=ada.actor, replicas=replicas)

    assert refusal(lambda: change(3)) == "replica_limit"
    deployment_stop(org=ada.org, deployment_id=second.id, actor=ada.actor)
    assert change(3).desired_replicas == 3

    def start(which: Deployment) -> Deployment:
        return deployment_start(org=ada.org, deployment_id=which.id, actor=ada.actor)

    assert refusal(lambda: start(second)) == "replica_limit"
    # What runs already is asked for again without harm, whatever is allowed by now.
    allow(ada, 0)
    assert start(first).desired_state == "running"
    assert change(1).desired_replicas == 1
    deployment_stop(org=ada.org, deployment_id=theirs.id, actor=ada.actor)
    assert start(theirs).desired_state == "running"


def test_credit_has_to_cover_the_first_hour(ada: Customer, model: Model):
    allow(ada, 2)
    gpu_price(model.id, 10**12 // 3_600_000 // 2 * 3, since=now())
    assert refusal(lambda: create(ada)) == "insufficient_credit"
    assert not Deployment.objects.exists() and not DeploymentRevision.objects.exists()


def test_what_it_was_set_to_is_kept_and_comes_back_as_a_new_revision(
    operator: Customer, ada: Customer, bob: Customer, model: Model
):
    allow(ada, 3)
    made = create(ada)

    def change(**what) -> None:
        deployment_change(org=ada.org, deployment_id=made.id, actor=ada.actor, **what)

    def restore(number: int, by: Customer = ada) -> Deployment:
        return deployment_restore(org=by.org, deployment_id=made.id, number=number, actor=by.actor)

    change(replicas=3)
    change(replicas=3)
    change(weights="fp16", kv_dtype="fp8")
    restored = restore(1)
    assert (restored.desired_replicas, restored.weights, restored.generation) == (1, "checkpoint", 3)
    assert restored.kv_dtype == "auto"
    kept = revision_list(deployment=restored, reader=ada.org)
    assert [one.revision.number for one in kept] == [4, 3, 2, 1]
    assert [(change.name, change.before, change.after) for change in kept[0].changes] == [
        ("replicas", "3", "1"), ("weights", "fp16", "checkpoint"), ("kv_dtype", "fp8", "auto"),
    ]  # fmt: skip
    assert (kept[0].revision.restored, kept[0].revision.actor_label) == (1, ada.user.email)
    assert [one.is_current for one in kept] == [True, False, False, True]
    event = AuditEvent.objects.get(action="deployment.restored")
    assert (event.data["as_in"], event.data["before"]["replicas"]) == (1, "3")
    # Again is nothing new.
    assert restore(1).generation == 3 and DeploymentRevision.objects.count() == 4
    allow(ada, 2)
    assert refusal(lambda: restore(2)) == "replica_limit"
    assert refusal(lambda: restore(9)) == "not_found"
    assert refusal(lambda: restore(2, bob)) == "not_found"
    given = deployment_ensure(org=ada.org, model=model, name="given", actor=operator.actor)
    assert (
        refusal(lambda: deployment_restore(org=ada.org, deployment_id=given.id, number=1, actor=ada.actor))
        == "deployments_closed"
    )


@pytest.mark.django_db(transaction=True)
def test_of_two_at_once_only_as_many_run_as_may():
    operator, ada = make_operator(), make_customer("ada")
    gpu_price(make_model(operator, priced=False).id)
    Model.objects.update(deployable=True)
    allow(ada, 1)
    ready, said = threading.Barrier(2), []

    def work(name: str) -> None:
        ready.wait()
        try:
            create(ada, name)
            said.append("made")
        except KindlingError as error:
            said.append(error.code)
        finally:
            connection.close()

    threads = [threading.Thread(target=work, args=(name,)) for name in ("one", "two")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(said) == ["made", "replica_limit"]
    assert Deployment.objects.count() == 1


def test_who_leaves_is_named_in_no_revision(operator: Customer, model: Model):
    gone = make_customer("gone")
    allow(gone, 1)
    made = create(gone)
    user_delete(user=gone.user, typed=gone.user.email, keep_keys=False, actor=gone.actor, give_up_cents=0)
    assert [row.actor_label for row in DeploymentRevision.objects.filter(deployment=made)] == [
        "Former member"
    ]
    assert gone.user.email not in str(list(DeploymentRevision.objects.values()))


def test_so_many_are_kept_and_no_more(ada: Customer, model: Model, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("kindling_platform.deployments.allowances.MOST_DEPLOYMENTS", 2)
    allow(ada, 9)
    first = create(ada, "first")
    deployment_stop(org=ada.org, deployment_id=create(ada, "second").id, actor=ada.actor)
    assert refusal(lambda: create(ada, "third")) == "too_many_deployments"
    deployment_delete(org=ada.org, deployment_id=first.id, actor=ada.actor)
    assert create(ada, "third").name == "third"


def test_the_newest_revisions_are_kept(ada: Customer, model: Model, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("kindling_platform.deployments.revisions.KEPT", 3)
    allow(ada, 9)
    made, other = create(ada), create(ada, "other")
    for replicas in (2, 3, 4, 5):
        deployment_change(org=ada.org, deployment_id=made.id, actor=ada.actor, replicas=replicas)
    rows = DeploymentRevision.objects.filter(deployment=made).order_by("number")
    assert [(row.number, row.replicas) for row in rows] == [(3, 3), (4, 4), (5, 5)]
    assert DeploymentRevision.objects.get(deployment=other).number == 1
    assert refusal(lambda: restore_of(ada, made, 2)) == "not_found"
    assert restore_of(ada, made, 3).desired_replicas == 3
    assert rows.last().number == 6


def restore_of(customer: Customer, deployment: Deployment, number: int) -> Deployment:
    return deployment_restore(
        org=customer.org, deployment_id=deployment.id, number=number, actor=customer.actor
    )
