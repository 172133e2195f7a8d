"""Replicas whose time is billed: prices of GPU time, and intervals without the machines behind them."""

from datetime import UTC, datetime, timedelta

from kindling_billing.models import PriceVersion
from kindling_billing.services import price_publish
from kindling_people import CACHED, INPUT, OUTPUT
from kindling_platform.deployments.models import Deployment, ReplicaInterval

# Where the worker who bills it dies once.
GPU_POINTS = ("gpu_time.written", "gpu_time.committed")
GPU_MS = 1_000
HOUR_COST = GPU_MS * 3_600_000
LOADING = timedelta(seconds=40)
EVER = datetime(2026, 1, 1, tzinfo=UTC)
START = datetime(2026, 3, 10, 9, 15, 0, 123_456, tzinfo=UTC)


def gpu_price(sku: str, gpu_ms: int = GPU_MS, *, since: datetime = EVER, plan_id: str = "") -> PriceVersion:
    """A price that has one for GPU time, too."""
    return price_publish(
        sku=sku, input_picousd=INPUT, cached_input_picousd=CACHED, output_picousd=OUTPUT,
        gpu_ms_picousd=gpu_ms, valid_from=since, plan_id=plan_id,
    )  # fmt: skip


def held(
    deployment: Deployment,
    *,
    start: datetime = START,
    lasts: timedelta = timedelta(hours=2, minutes=30),
    ended: bool = True,
    name: str = "",
) -> ReplicaInterval:
    """A time for which a replica of a deployment was ready, as the reconciler leaves it; it had loaded before."""
    end = start + lasts
    return ReplicaInterval.objects.create(
        organisation_id=deployment.organisation_id,
        deployment_id=deployment.id,
        model_id=deployment.model_id,
        replica_name=name or f"{deployment.id}-g1-r0",
        pid=1,
        restarts=0,
        started_at=start - LOADING,
        ready_at=start,
        last_seen_at=end,
        ended_at=end if ended else None,
        billed_until=None if deployment.organisation.is_operator else start,
    )
