"""Looks at those components whose health is in the database: models, metering, checks of adapters.

What replicas and gateways say of themselves is written down all the time; this only reads it. A replica whose heartbeat
is old may be well or not, so of a model that has no other nothing is said at all.
"""

from datetime import datetime, timedelta
from typing import Any

from kindling_platform.adapters.models import Adapter
from kindling_platform.deployments.intervals import MOST_APART
from kindling_platform.deployments.models import Deployment
from kindling_platform.deployments.selectors import deployment_list
from kindling_platform.status.components import (
    BILLING,
    CHECKS,
    DOWN,
    LIMITED,
    STARTING,
    UP,
    Seen,
    model_key,
)
from kindling_platform.usage.models import SpooledUsage

# What gateways ship is booked within seconds; where the engine's log has to be heard first, within a minute or so.
BOOKED_WITHIN, BOOKED_AT_ALL = timedelta(minutes=2), timedelta(minutes=30)
CHECKED_WITHIN = timedelta(minutes=10)
COMING = ("pending", "starting", "restarting")


def served_deployments() -> Any:
    """What the operator runs of public models, for everybody."""
    return deployment_list().filter(
        desired_state=Deployment.Desired.RUNNING, organisation__is_operator=True, model__is_public=True
    )


def models_look(*, at: datetime) -> list[Seen]:
    """Each served model once, however many deployments it has."""
    by_model: dict[str, list[Deployment]] = {}
    for deployment in served_deployments():
        by_model.setdefault(deployment.model_id, []).append(deployment)
    found = (_model_look(model_id, rows, at) for model_id, rows in sorted(by_model.items()))
    return [seen for seen in found if seen]


def billing_look(*, at: datetime) -> Seen:
    """How far the books are behind what gateways have shipped."""
    oldest = (
        SpooledUsage.objects.filter(booked_at=None)
        .order_by("shipped_at")
        .values_list("shipped_at", flat=True)
        .first()
    )
    lag = at - oldest if oldest else timedelta(0)
    if lag <= BOOKED_WITHIN:
        return Seen(BILLING, UP)
    note = f"Usage of the last {minutes_text(lag)} is not on all balances yet."
    return Seen(BILLING, LIMITED if lag <= BOOKED_AT_ALL else DOWN, note)


def checks_look(*, at: datetime) -> Seen:
    """Whether adapters whose base answers are checked in time; whoever asks is a worker itself, so workers work."""
    waiting = Adapter.objects.filter(
        state=Adapter.State.VALIDATING, completed_at__lt=at - CHECKED_WITHIN,
        base__deployments__state=Deployment.State.LIVE,
    )  # fmt: skip
    if waiting.exists():
        return Seen(CHECKS, LIMITED, "Checks of adapters take longer than usual.")
    return Seen(CHECKS, UP)


def minutes_text(span: timedelta) -> str:
    """A time in whole minutes."""
    minutes = max(1, int(span.total_seconds() // 60))
    return "minute" if minutes == 1 else f"{minutes} minutes"


def _model_look(model_id: str, deployments: list[Deployment], at: datetime) -> Seen | None:
    replicas = [replica for one in deployments for replica in one.replicas.all()]
    ready = [replica for replica in replicas if replica.state == "ready"]
    if any(replica.heartbeat_at and replica.heartbeat_at >= at - MOST_APART for replica in ready):
        if any(one.state == Deployment.State.DEGRADED for one in deployments):
            return Seen(model_key(model_id), LIMITED, "It answers with fewer replicas than usual.")
        return Seen(model_key(model_id), UP)
    if ready:
        return None
    coming = [one.state for one in deployments] + [replica.state for replica in replicas]
    return Seen(model_key(model_id), STARTING if any(state in COMING for state in coming) else DOWN)
