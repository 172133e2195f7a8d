"""What a deployment was set to, by whom and when, with what changed each time."""

from dataclasses import dataclass, field

from django.db.models import Max, QuerySet

from kindling_platform.common.actors import Actor
from kindling_platform.common.errors import not_found
from kindling_platform.common.tenancy import HasId
from kindling_platform.deployments.models import Deployment, DeploymentRevision
from kindling_platform.keys.activity import name_map

# How many of a deployment's revisions are kept, the newest.
KEPT = 50


@dataclass(frozen=True, slots=True)
class Change:
    """One setting that differs from the revision before."""

    name: str
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class Revised:
    """A revision, and what it changed; `is_current` where the deployment is set so now, `who` by whom it was set."""

    revision: DeploymentRevision
    who: str
    changes: list[Change] = field(default_factory=list)
    is_current: bool = False


def revision_add(*, deployment: Deployment, actor: Actor, restored: int | None = None) -> DeploymentRevision:
    """Keep what a deployment is set to now, and forget what it was set to long ago.

    Call it while the deployment is locked, or has just been made.
    """
    kept = DeploymentRevision.objects.filter(deployment=deployment)
    last = kept.aggregate(last=Max("number"))["last"] or 0
    kept.filter(number__lte=last + 1 - KEPT).delete()
    return DeploymentRevision.objects.create(
        deployment=deployment,
        number=last + 1,
        model=deployment.model,
        replicas=deployment.desired_replicas,
        weights=deployment.weights,
        kv_dtype=deployment.kv_dtype,
        restored=restored,
        actor_id=actor.id,
        actor_label=actor.label[:200],
    )


def revision_get(*, deployment: Deployment, number: int) -> DeploymentRevision:
    """A revision of a deployment by its number.

    Raises:
        KindlingError: not_found.
    """
    found = _revisions(deployment).filter(number=number).first()
    if found is None:
        raise not_found("revision")
    return found


def revision_list(*, deployment: Deployment, reader: HasId | None, limit: int = KEPT) -> list[Revised]:
    """The newest revisions of a deployment with what each of them changed, newest first.

    A `reader` other than the operator learns no names of the operator's people.
    """
    rows = list(_revisions(deployment)[: limit + 1])
    labels = {row.actor_id: row.actor_label for row in reversed(rows) if row.actor_id}
    named = labels if reader is None else name_map(org=reader, labels=labels)
    now = settings_of(deployment)
    shown = []
    for place, row in enumerate(rows[:limit]):
        before = rows[place + 1] if place + 1 < len(rows) else None
        who = named.get(row.actor_id, row.actor_label)
        shown.append(Revised(row, who, _changes(before, row), is_current=_settings(row) == now))
    return shown


def settings_of(deployment: Deployment) -> dict[str, str]:
    """What a deployment is set to, by the names that people know."""
    return {
        "model": deployment.model.ref,
        "replicas": str(deployment.desired_replicas),
        "weights": deployment.weights,
        "kv_dtype": deployment.kv_dtype,
    }


def _settings(row: DeploymentRevision) -> dict[str, str]:
    return {
        "model": row.model.ref,
        "replicas": str(row.replicas),
        "weights": row.weights,
        "kv_dtype": row.kv_dtype,
    }


def _changes(before: DeploymentRevision | None, after: DeploymentRevision) -> list[Change]:
    if before is None:
        return []
    old, new = _settings(before), _settings(after)
    return [Change(name, old[name], new[name]) for name in new if old[name] != new[name]]


def _revisions(deployment: Deployment) -> QuerySet[DeploymentRevision]:
    rows = DeploymentRevision.objects.filter(deployment=deployment)
    return rows.select_related("model__organisation").order_by("-number")
