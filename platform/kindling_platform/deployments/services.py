"""Says what should run, and records what does."""

from datetime import datetime
from typing import Any

from django.db import IntegrityError, transaction

from kindling_billing.notices import notice_add
from kindling_engine.protocol.kv_dtypes import AUTO
from kindling_engine.protocol.weight_forms import CHECKPOINT
from kindling_platform.accounts.actor import Actor
from kindling_platform.accounts.models import Organisation
from kindling_platform.accounts.selectors import organisation_named
from kindling_platform.audit.services import audit_record
from kindling_platform.catalog.models import Model
from kindling_platform.catalog.selectors import model_get
from kindling_platform.common.actors import SYSTEM
from kindling_platform.common.clock import now
from kindling_platform.common.errors import KindlingError
from kindling_platform.common.happenings import Happening, happening_tell
from kindling_platform.common.jobs import enqueue
from kindling_platform.common.leases import lease_take
from kindling_platform.common.slugs import name_checked
from kindling_platform.deployments.allowances import (
    deploying_check,
    organisation_lock,
    replicas_check,
    room_check,
)
from kindling_platform.deployments.credit import credit_check
from kindling_platform.deployments.intervals import interval_end, interval_heard
from kindling_platform.deployments.locks import (
    deployment_lock,
    deployment_lock_to_change,
    deployment_lock_to_start,
    deployments_kept,
)
from kindling_platform.deployments.models import Deployment, DeploymentEvent, Replica
from kindling_platform.deployments.revisions import revision_add, revision_get, settings_of
from kindling_platform.deployments.selectors import deployment_get
from kindling_platform.deployments.settings import settings_check, what_runs

RECONCILE_JOB = "deployments.reconcile"
HALTED = "deployment.halted"
READY = "ready"


@transaction.atomic
def deployment_ensure(
    *,
    org: Organisation,
    model: Model,
    name: str,
    actor: Actor,
    replicas: int | None = None,
    weights: str | None = None,
    kv_dtype: str | None = None,
    self_made: bool = False,
) -> Deployment:
    """The deployment of this name, running this model; made if it is not there, a new generation if it changed.

    `replicas`, `weights` and `kv_dtype` stay as they are when they are None; one that is made has one replica, weights
    as the checkpoint has them, and keys and values as it computes. The latter are of WEIGHT_FORMS and KV_DTYPES.
    Replicas of an organisation that is not the operator's are charged to it by the hour.

    Raises:
        KindlingError: name_invalid, and those of `settings_check`, and of `credit_check` where more than before should
            run.
    """
    name_checked(name)
    settings_check(replicas=replicas, weights=weights, kv_dtype=kv_dtype)
    found: Deployment | None = deployments_kept(org).select_for_update().filter(name=name).first()
    if found is None:
        replicas, weights = replicas or 1, weights or CHECKPOINT
        credit_check(org=org, model=model, replicas=replicas)
        try:
            with transaction.atomic():
                found = Deployment.objects.create(
                    organisation=org,
                    model=model,
                    name=name,
                    desired_replicas=replicas,
                    weights=weights,
                    kv_dtype=kv_dtype or AUTO,
                    self_made=self_made,
                    reason="Not started yet.",
                )
        except IntegrityError as error:
            raise KindlingError(
                "deployment_exists", f"There is a deployment {name!r}.", 409, param="name"
            ) from error
        revision_add(deployment=found, actor=actor)
        event_add(deployment=found, kind="created", message=f"Deployment of {what_runs(found)}.")
        audit_record(actor=actor, action="deployment.create", target=found.id, organisation_id=org.id)
    else:
        _change(found, model, actor, replicas=replicas, weights=weights, kv_dtype=kv_dtype)
    enqueue(RECONCILE_JOB, deployment_id=found.id)
    return found


@transaction.atomic
def deployment_change(
    *,
    org: Organisation | None,
    deployment_id: str,
    actor: Actor,
    replicas: int | None = None,
    weights: str | None = None,
    kv_dtype: str | None = None,
) -> Deployment:
    """Change how many replicas a deployment has, while the others go on, or what its weights, or keys and values, are
    kept as, for which all of them start anew; None leaves each as it is.

    Machines are the operator's: they change what runs on them, their own and, with `org` None, anybody's. Others change
    what they made themselves, within their replicas.

    Raises:
        KindlingError: not_found, deployments_closed, those of `settings_check` and `replicas_check`, and those of
            `credit_check` where more than before should run.
    """
    settings_check(replicas=replicas, weights=weights, kv_dtype=kv_dtype)
    found = deployment_lock_to_change(org, deployment_id, replicas)
    _change(found, found.model, actor, replicas=replicas, weights=weights, kv_dtype=kv_dtype)
    enqueue(RECONCILE_JOB, deployment_id=found.id)
    return found


@transaction.atomic
def deployment_restore(
    *, org: Organisation | None, deployment_id: str, number: int, actor: Actor
) -> Deployment:
    """Set a deployment to what it was in an earlier revision, as a new one; where it is so already, nothing changes.

    Whose, and the refusals, are as for `deployment_change`.

    Raises:
        KindlingError: not_found, and those of `deployment_change`.
    """
    past = revision_get(deployment=deployment_get(org=org, deployment_id=deployment_id), number=number)
    found = deployment_lock_to_change(org, deployment_id, past.replicas)
    _change(
        found, past.model, actor, replicas=past.replicas, weights=past.weights, kv_dtype=past.kv_dtype,
        restored=number,
    )  # fmt: skip
    enqueue(RECONCILE_JOB, deployment_id=found.id)
    return found


@transaction.atomic
def deployment_create(
    *,
    org: Organisation,
    model_ref: str,
    name: str,
    actor: Actor,
    replicas: int = 1,
    weights: str = CHECKPOINT,
    kv_dtype: str | None = None,
    for_ref: str = "",
) -> Deployment:
    """Deploy a model on request of a person or a key.

    Machines are the operator's: they make deployments, for themselves or with `for_ref`, a slug or an id, for
    another organisation, which then pays for its hours, and starts and stops it. Others make some for themselves, of
    the models that the operator has opened and within the replicas that they are allowed.

    Raises:
        KindlingError: deployments_closed, organisation_unknown, model_not_found, deployment_exists, those of
            `deploying_check`, `replicas_check` and `room_check`, and those of `deployment_ensure`.
    """
    is_own = not org.is_operator
    if is_own and for_ref not in ("", org.id, org.slug):
        text = "Only the operator of this installation makes deployments for other organisations."
        raise KindlingError("deployments_closed", text, 403)
    if is_own:
        org = organisation_lock(org)
    elif for_ref:
        org = organisation_named(ref=for_ref)
    model = model_get(org=org, ref=model_ref)
    if is_own:
        settings_check(replicas=replicas, weights=weights, kv_dtype=kv_dtype)
        deploying_check(org=org, model=model)
        replicas_check(org=org, replicas=replicas)
        room_check(org=org)
    if deployments_kept(org).filter(name=name).exists():
        raise KindlingError("deployment_exists", f"There is a deployment {name!r}.", 409, param="name")
    return deployment_ensure(
        org=org, model=model, name=name, actor=actor, replicas=replicas, weights=weights, kv_dtype=kv_dtype,
        self_made=is_own,
    )  # fmt: skip


def deployment_start(*, org: Organisation | None, deployment_id: str, actor: Actor) -> Deployment:
    """Ask for a deployment to run; of any organisation when `org` is None, for the operator.

    Raises:
        KindlingError: not_found, and those of `replicas_check` and `credit_check` when it did not run.
    """
    return _desire(org, deployment_id, Deployment.Desired.RUNNING, actor)


def deployment_stop(*, org: Organisation | None, deployment_id: str, actor: Actor) -> Deployment:
    """Ask for a deployment to stop; its requests are drained. Of any organisation when `org` is None.

    Raises:
        KindlingError: not_found.
    """
    return _desire(org, deployment_id, Deployment.Desired.STOPPED, actor)


def deployment_delete(*, org: Organisation | None, deployment_id: str, actor: Actor) -> Deployment:
    """Stop a deployment for good, its requests drained: it is in no list any more, and its name is free.

    What it cost stays in the books. Of any organisation when `org` is None.

    Raises:
        KindlingError: not_found.
    """
    return _desire(org, deployment_id, Deployment.Desired.DELETED, actor)


@transaction.atomic
def deployment_halt(*, deployment_id: str, reason: str) -> bool:
    """Stop a deployment that its organisation cannot pay for, until somebody starts it; False when it was stopped."""
    found = Deployment.objects.select_for_update().filter(id=deployment_id).first()
    if found is None or found.desired_state != Deployment.Desired.RUNNING:
        return False
    found.desired_state = Deployment.Desired.STOPPED
    found.stop_reason = found.reason = reason[:300]
    found.save(update_fields=["desired_state", "stop_reason", "reason"])
    event_add(deployment=found, kind="halted", message=reason)
    record = audit_record(
        actor=SYSTEM, action="deployment.halted", target=found.id, organisation_id=found.organisation_id,
        data={"reason": reason},
    )  # fmt: skip
    notice_add(
        kind=HALTED, key=str(record.id), owner_id=found.organisation_id,
        data={"deployment": found.name, "reason": reason},
    )  # fmt: skip
    enqueue(RECONCILE_JOB, deployment_id=found.id)
    return True


def deployment_lease(*, deployment_id: str, ttl_s: float) -> str | None:
    """A token for one step of the reconciler; None while another worker has it."""
    return lease_take(Deployment.objects, pk=deployment_id, ttl_s=ttl_s)


@transaction.atomic
def deployment_apply(*, deployment_id: str, token: str, state: str, reason: str) -> bool:
    """Write a step's outcome and give the lease back; False, and nothing written, if the lease was lost."""
    found = Deployment.objects.select_for_update().filter(id=deployment_id, lease_token=token).first()
    if found is None:
        return False
    if found.state != state:
        event_add(deployment=found, kind=state, message=reason or f"The deployment is {state}.")
        told = {"name": found.name, "state": state, "reason": (reason or found.stop_reason)[:300]}
        happening_tell(Happening("deployment.state", found.id, found.organisation_id, told))
    found.state, found.reason = state, (reason or found.stop_reason)[:300]
    found.lease_token, found.lease_expires_at = "", None
    found.save(update_fields=["state", "reason", "lease_token", "lease_expires_at"])
    return True


@transaction.atomic
def replica_observe(
    *,
    deployment: Deployment,
    name: str,
    generation: int,
    rank: int,
    state: str,
    url: str = "",
    pid: int | None = None,
    restarts: int = 0,
    reason: str = "",
    ready_at: datetime | None = None,
    heard: bool = True,
) -> Replica:
    """Record how a replica was seen just now; restarts and changes of state become events.

    `heard` is False for what we conclude from its host's silence: that is no heartbeat.
    """
    before = Replica.objects.select_for_update().filter(name=name).first()
    at = now()
    heartbeat = {"heartbeat_at": at} if heard else {}
    replica, _ = Replica.objects.update_or_create(
        name=name,
        defaults={
            "deployment": deployment,
            "generation": generation,
            "rank": rank,
            "state": state,
            "url": url,
            "pid": pid,
            "restarts": restarts,
            "reason": reason[:300],
            "ready_at": ready_at,
            **heartbeat,
        },
    )
    if heard:
        interval_heard(
            deployment=deployment, name=name, pid=pid, restarts=restarts, at=at, is_ready=state == READY
        )
    else:
        interval_end(name=name)
    data = {"replica": name, "pid": pid, "restarts": restarts}
    if before is not None and (restarts > before.restarts or (before.pid and pid and pid != before.pid)):
        event_add(
            deployment=deployment,
            kind="restarted",
            message=f"Replica {rank} died and was started again.",
            data=data,
        )
    if before is None or before.state != state:
        event_add(
            deployment=deployment,
            kind=f"replica_{state}",
            message=f"Replica {rank} is {state}. {reason}".strip(),
            data=data,
        )
    return replica


def replica_forget(*, name: str) -> None:
    """Drop the row of a replica that was deleted on purpose and whose usage log was read to its end."""
    Replica.objects.filter(name=name).delete()


def event_add(*, deployment: Deployment, kind: str, message: str, data: dict[str, Any] | None = None) -> None:
    """Note something that happened to a deployment."""
    DeploymentEvent.objects.create(
        deployment=deployment, kind=kind[:40], message=message[:300], data=data or {}
    )


def _change(
    found: Deployment,
    model: Model,
    actor: Actor,
    *,
    replicas: int | None,
    weights: str | None,
    kv_dtype: str | None,
    restored: int | None = None,
) -> None:
    """Make a locked deployment so, if it is not: other replicas come and go, other engines are a new generation."""
    replicas = replicas or found.desired_replicas
    engine = (model.id, weights or found.weights, kv_dtype or found.kv_dtype)
    is_same_engine = engine == (found.model_id, found.weights, found.kv_dtype)
    if is_same_engine and found.desired_replicas == replicas:
        return
    if found.desired_state == Deployment.Desired.RUNNING:
        more = replicas if found.model_id != model.id else replicas - found.desired_replicas
        credit_check(org=found.organisation, model=model, replicas=max(0, more))
    before = settings_of(found)
    found.generation += not is_same_engine
    found.model, found.desired_replicas, (_, found.weights, found.kv_dtype) = model, replicas, engine
    found.save(update_fields=["model", "desired_replicas", "weights", "kv_dtype", "generation"])
    revision = revision_add(deployment=found, actor=actor, restored=restored)
    again = f" As it was in revision {restored}." if restored else ""
    event_add(deployment=found, kind="changed", message=f"Now {what_runs(found)}.{again}")
    data = {"revision": revision.number} | ({"as_in": restored} if restored else {})
    audit_record(
        actor=actor, action="deployment.restored" if restored else "deployment.change", target=found.id,
        organisation_id=found.organisation_id, data=data, before=before, after=settings_of(found),
    )  # fmt: skip


@transaction.atomic
def _desire(org: Organisation | None, deployment_id: str, desired: str, actor: Actor) -> Deployment:
    lock = deployment_lock_to_start if desired == Deployment.Desired.RUNNING else deployment_lock
    found = lock(org, deployment_id)
    if found.desired_state != desired:
        if desired == Deployment.Desired.RUNNING:
            credit_check(org=found.organisation, model=found.model, replicas=found.desired_replicas)
        found.desired_state, found.stop_reason = desired, ""
        found.save(update_fields=["desired_state", "stop_reason"])
        event_add(deployment=found, kind="desired", message=f"{actor.label} asked for it to be {desired}.")
        audit_record(
            actor=actor,
            action=f"deployment.{desired}",
            target=found.id,
            organisation_id=found.organisation_id,
        )
    enqueue(RECONCILE_JOB, deployment_id=found.id)
    return found
