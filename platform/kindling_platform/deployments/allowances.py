"""What an organisation may deploy for itself: models that the operator has opened, and so many replicas at once.

Both are off until the operator says otherwise. What the operator makes for an organisation counts for nothing here.
"""

from dataclasses import dataclass

from django.db.models import Sum

from kindling_billing.terms import terms_get
from kindling_platform.accounts.models import Organisation
from kindling_platform.catalog.models import Model
from kindling_platform.catalog.selectors import model_list
from kindling_platform.common.errors import KindlingError
from kindling_platform.common.models import OrgQuerySet
from kindling_platform.deployments.models import Deployment

# How many an organisation may have made and not deleted, whether they run or not.
MOST_DEPLOYMENTS = 100


@dataclass(frozen=True, slots=True)
class Allowance:
    """How many replicas of its own making may run at once, and how many are to run now."""

    replicas: int
    running: int

    @property
    def left(self) -> int:
        """How many more may run."""
        return max(0, self.replicas - self.running)


def allowance_get(*, org: Organisation, but: str = "") -> Allowance:
    """What an organisation may run; the deployment `but` is not counted."""
    running = Deployment.objects.for_org(org).filter(self_made=True, desired_state=Deployment.Desired.RUNNING)
    held = running.exclude(id=but).aggregate(held=Sum("desired_replicas"))["held"]
    return Allowance(terms_get(owner_id=org.id).own_replicas, held or 0)


def model_list_deployable(*, org: Organisation) -> OrgQuerySet:
    """The models that an organisation may deploy for itself."""
    return model_list(org=org).filter(deployable=True)


def organisation_lock(org: Organisation) -> Organisation:
    """The organisation, while nobody else starts anything of it; before any of its deployments is locked."""
    return Organisation.objects.select_for_update(no_key=True).get(id=org.id)


def deploying_check(*, org: Organisation, model: Model) -> None:
    """Refuse a deployment that an organisation makes for itself, where the operator has not opened that.

    Raises:
        KindlingError: `account_suspended`, `deployments_closed`, `model_not_deployable`.
    """
    if org.suspended_at is not None:
        text = "The operator of this platform has suspended your organisation. Ask them why and what ends it."
        raise KindlingError("account_suspended", text, 412)
    if not terms_get(owner_id=org.id).own_replicas:
        text = (
            "Your organisation may not make deployments of its own here. Ask the operator of this installation"
            " to allow it some replicas; your adapters run on the operator's meanwhile."
        )
        raise KindlingError("deployments_closed", text, 403)
    if not model.deployable:
        text = f"{model.ref} is not open to deployments of your own. The catalog says which models are."
        raise KindlingError("model_not_deployable", text, 403, param="model")


def replicas_check(*, org: Organisation, replicas: int, but: str = "") -> None:
    """Refuse to have so many replicas run beside those that run already, of the deployment `but` apart.

    Call it while the organisation is locked: of two starts at once one comes second.

    Raises:
        KindlingError: `replica_limit`.
    """
    allowance = allowance_get(org=org, but=but)
    if replicas <= allowance.left:
        return
    held = allowance.running
    run = f"{held} run{'s' if held == 1 else ''} already. Stop one" if held else "none runs now. Take fewer"
    text = (
        f"Your organisation may run {_replicas(allowance.replicas)} of its own at once, and {run}, or ask the operator"
        " of this installation for more."
    )
    raise KindlingError("replica_limit", text, 409, param="replicas")


def room_check(*, org: Organisation) -> None:
    """Refuse one more deployment of an organisation's own, where it has kept so many. Call it while that is locked.

    Raises:
        KindlingError: `too_many_deployments`.
    """
    kept = Deployment.objects.for_org(org).filter(self_made=True)
    if kept.exclude(desired_state=Deployment.Desired.DELETED).count() >= MOST_DEPLOYMENTS:
        text = (
            f"Your organisation has made {MOST_DEPLOYMENTS} deployments, stopped ones among them, which is the most."
            " Delete one that you do not need."
        )
        raise KindlingError("too_many_deployments", text, 409)


def _replicas(count: int) -> str:
    return f"{count} replica{'' if count == 1 else 's'}"
