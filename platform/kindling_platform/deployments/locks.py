"""A deployment while nobody else changes it. The organisation's lock comes first where both are taken."""

from kindling_platform.accounts.models import Organisation
from kindling_platform.common.errors import KindlingError, not_found
from kindling_platform.common.models import OrgQuerySet
from kindling_platform.deployments.allowances import organisation_lock, replicas_check
from kindling_platform.deployments.models import Deployment


def deployments_kept(org: Organisation | None) -> OrgQuerySet:
    """Those of an organisation, or everybody's, that were not deleted."""
    rows = Deployment.objects.all() if org is None else Deployment.objects.for_org(org)
    return rows.exclude(desired_state=Deployment.Desired.DELETED)


def deployment_lock(org: Organisation | None, deployment_id: str) -> Deployment:
    """A deployment, locked until the transaction ends.

    Raises:
        KindlingError: not_found.
    """
    found: Deployment | None = deployments_kept(org).select_for_update().filter(id=deployment_id).first()
    if found is None:
        raise not_found("deployment")
    return found


def deployment_lock_to_start(org: Organisation | None, deployment_id: str) -> Deployment:
    """As `deployment_lock`, for a start, which needs room among the replicas that an organisation is allowed.

    Raises:
        KindlingError: not_found, replica_limit.
    """
    if org is None or org.is_operator:
        return deployment_lock(org, deployment_id)
    organisation_lock(org)
    found = deployment_lock(org, deployment_id)
    if found.self_made and found.desired_state != Deployment.Desired.RUNNING:
        replicas_check(org=org, replicas=found.desired_replicas, but=found.id)
    return found


def deployment_lock_to_change(
    org: Organisation | None, deployment_id: str, replicas: int | None
) -> Deployment:
    """As `deployment_lock`, if `org` may have it have so many replicas; None leaves them as they are.

    Raises:
        KindlingError: not_found, deployments_closed, replica_limit.
    """
    if org is None or org.is_operator:
        return deployment_lock(org, deployment_id)
    organisation_lock(org)
    found = deployment_lock(org, deployment_id)
    if not found.self_made:
        text = "The operator of this installation made this deployment and changes it; you may stop and start it."
        raise KindlingError("deployments_closed", text, 403)
    if replicas is not None and replicas > found.desired_replicas:
        replicas_check(org=org, replicas=replicas, but=found.id)
    return found
