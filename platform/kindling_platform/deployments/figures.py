"""What a list of deployments says of each: how fast, how busy, what an hour costs; a few queries for all of them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from kindling_billing.costs import cost_book
from kindling_billing.gpu_hours import HOUR_MS
from kindling_billing.selectors import price_map_of_owners, price_of
from kindling_platform.accounts.models import Organisation
from kindling_platform.catalog.speeds import FRESH
from kindling_platform.common.clock import now
from kindling_platform.deployments.models import Deployment, DeploymentSpeed

HOUR_S = 3600


@dataclass(frozen=True, slots=True)
class HourCost:
    """What an hour of a deployment costs now: so many replicas, each at a price; None where it has none."""

    replicas: int
    each_picousd: int | None

    @property
    def picousd(self) -> int | None:
        """All of them; what does not run costs nothing."""
        if not self.replicas:
            return 0
        return None if self.each_picousd is None else self.replicas * self.each_picousd


@dataclass(frozen=True, slots=True)
class Figures:
    """One deployment as a reader may see it; without `cost` they pay for what they use, not for its time."""

    speed: DeploymentSpeed | None
    cost: HourCost | None
    is_own_cost: bool = True

    @property
    def requests_per_s(self) -> float | None:
        """Over the last hour; None where it is not known, or would give somebody away."""
        if self.speed is None or self.speed.hour_requests is None:
            return None
        return self.speed.hour_requests / HOUR_S

    @property
    def whose(self) -> str:
        """Of whose requests the figures are."""
        if self.speed is None:
            return ""
        known = {DeploymentSpeed.EVERYBODY: "all organisations", DeploymentSpeed.OPERATOR: "all requests"}
        return known.get(self.speed.scope, "your requests")


NO_FIGURES = Figures(None, None)


def figures_map(
    *, org: Organisation, deployments: Sequence[Deployment], is_operator: bool
) -> dict[str, Figures]:
    """Figures of deployments by id, as far as this organisation may see them; the operator sees all of all requests.

    Of its own deployments an organisation sees its own requests and what it pays for an hour; of those that all share
    what gives nobody away, else its own requests. What an hour costs the operator only the operator sees.
    """
    speeds = _speeds(org, [one.id for one in deployments], is_operator=is_operator)
    costs = _costs(org, deployments, is_operator=is_operator)
    return {
        one.id: Figures(speeds.get(one.id), costs.get(one.id), not one.organisation.is_operator)
        for one in deployments
    }


def _speeds(org: Organisation, ids: Iterable[str], *, is_operator: bool) -> dict[str, DeploymentSpeed]:
    scopes = [DeploymentSpeed.OPERATOR] if is_operator else [org.id, DeploymentSpeed.EVERYBODY]
    rows = DeploymentSpeed.objects.filter(
        deployment_id__in=list(ids), scope__in=scopes, window_end__gte=now() - FRESH
    )
    # The empty scope comes first, so that in a mapping it comes last and holds.
    return {row.deployment_id: row for row in rows.order_by("-scope")}


def _costs(org: Organisation, deployments: Sequence[Deployment], *, is_operator: bool) -> dict[str, HourCost]:
    billed = [one for one in deployments if not one.organisation.is_operator]
    own = [one for one in billed if is_operator or one.organisation_id == org.id]
    costs: dict[str, HourCost] = {}
    if own:
        prices = price_map_of_owners(
            skus={one.model_id for one in own}, owner_ids={one.organisation_id for one in own}
        )
        for one in own:
            price = _hour_price(prices.get((one.organisation_id, one.model_id)))
            costs[one.id] = HourCost(_replicas(one), price)
    if is_operator:
        book, moment = cost_book(), now()
        for one in deployments:
            if one.organisation.is_operator:
                costs[one.id] = HourCost(_replicas(one), book.find(one.model_id, moment))
    return costs


def _replicas(deployment: Deployment) -> int:
    running = deployment.desired_state == Deployment.Desired.RUNNING
    return deployment.desired_replicas if running else 0


def _hour_price(version: Any) -> int | None:
    """What a replica's hour costs its owner; None while machine time has no price."""
    return (HOUR_MS * price_of(version).gpu_ms or None) if version else None
