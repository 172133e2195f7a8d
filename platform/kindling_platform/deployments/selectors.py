"""Reads deployments, replicas and events."""

from typing import Any

from django.db.models import Exists, F, OuterRef, Q, QuerySet

from kindling_platform.accounts.models import Organisation
from kindling_platform.catalog.selectors import model_list
from kindling_platform.common.errors import not_found
from kindling_platform.common.matching import best_first
from kindling_platform.common.models import OrgQuerySet
from kindling_platform.deployments.models import Deployment, DeploymentEvent, Replica


def deployment_list(*, org: Organisation | None = None) -> OrgQuerySet:
    """An organisation's deployments, or everybody's for the operator."""
    rows = deployment_rows().exclude(desired_state=Deployment.Desired.DELETED)
    rows = rows if org is None else rows.filter(organisation_id=org.id)
    return rows.order_by("-created_at", "-id")


def deployment_rows() -> OrgQuerySet:
    """Every deployment with what is read beside it, those among them that were deleted; for workers."""
    return Deployment.objects.select_related("model__organisation", "organisation").prefetch_related(
        "replicas"
    )


def deployment_list_visible(*, org: Organisation) -> OrgQuerySet:
    """What an organisation may see running: its own deployments, and those that all share, a public model's owner's."""
    shared = Q(model__is_public=True, organisation_id=F("model__organisation_id"))
    return deployment_list().filter(Q(organisation_id=org.id) | shared)


def deployment_list_named(*, org: Organisation, query: str) -> QuerySet[Any]:
    """Those of them that are called like `query`, the best first; without their replicas."""
    return best_first(deployment_list_visible(org=org).prefetch_related(None), query, fields=("name",))


def model_list_live_first(*, org: Organisation) -> OrgQuerySet:
    """The models an organisation may use, those that answer now before all others."""
    live = Exists(deployment_list_visible(org=org).filter(model_id=OuterRef("pk"), state="live"))
    return model_list(org=org).order_by(live.desc(), "organisation__slug", "name")


def model_list_running(*, org: Organisation) -> OrgQuerySet:
    """Those of them that a deployment is to serve, the ones that answer now first."""
    served = deployment_list_visible(org=org).filter(model_id=OuterRef("pk"), desired_state="running")
    return model_list_live_first(org=org).filter(Exists(served))


def deployment_get(*, org: Organisation | None, deployment_id: str) -> Deployment:
    """A deployment by id; of any organisation when `org` is None, for operator and workers.

    Raises:
        KindlingError: not_found.
    """
    found: Deployment | None = deployment_list(org=org).filter(id=deployment_id).first()
    if found is None:
        raise not_found("deployment")
    return found


def deployment_list_unsettled() -> list[str]:
    """Ids of deployments that are not as desired, or that run and so want watching."""
    settled = ~Q(desired_state="running") & Q(state="stopped", replicas=None)
    return list(Deployment.objects.exclude(settled).values_list("id", flat=True).distinct())


def deployment_is_moving(deployment_id: str) -> bool:
    """Whether a replica of it is on its way to being ready."""
    return Replica.objects.filter(deployment_id=deployment_id, state__in=("starting", "restarting")).exists()


def replica_list(*, deployment: Deployment | None = None) -> QuerySet[Replica]:
    """Replicas of a deployment, or all of them."""
    rows = Replica.objects.select_related("deployment").order_by("name")
    return rows if deployment is None else rows.filter(deployment=deployment)


def replica_list_ready(*, model_id: str, org_id: str) -> QuerySet[Replica]:
    """Replicas that can answer for a model now, of the organisation's own deployments and those of the model's owner,
    in any order. Others' are theirs alone: they pay for them, and nothing of this organisation is ever asked of them.
    """
    theirs = Q(deployment__organisation_id=org_id)
    shared = Q(deployment__organisation_id=F("deployment__model__organisation_id"))
    return Replica.objects.filter(
        theirs | shared,
        deployment__model_id=model_id,
        deployment__desired_state=Deployment.Desired.RUNNING,
        state="ready",
        generation=F("deployment__generation"),
    ).order_by("?")


def event_list(*, deployment: Deployment, limit: int = 100) -> list[DeploymentEvent]:
    """What happened to a deployment, newest first."""
    return list(DeploymentEvent.objects.filter(deployment=deployment).order_by("-created_at", "-id")[:limit])
