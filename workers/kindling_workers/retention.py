"""Deletes what has been kept long enough, in bounded steps: each may be cut off anywhere, and the next run goes on."""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import timedelta

import structlog
from django.conf import settings

from kindling_billing.webhooks.forgetting import events_forget
from kindling_platform.accounts.invitations import invitations_forget
from kindling_platform.audit.retention import audit_purge
from kindling_platform.common.clock import now
from kindling_platform.deployments.retention import deployment_events_purge
from kindling_platform.hooks.ending import deliveries_purge
from kindling_platform.status.samples import status_purge
from kindling_platform.usage.retention import usage_retire

log = structlog.get_logger("kindling.workers")
# For one kind in one run; the rest is due in the next.
MOST_S = 120.0


@dataclass(frozen=True, slots=True)
class Swept:
    """How many rows of each kind a run deleted."""

    requests: int
    audit: int
    events: int
    invitations: int
    happenings: int
    status: int = 0
    webhooks: int = 0


def retention_sweep() -> Swept:
    """Delete what is older than the settings keep it."""
    done = Swept(
        requests=_stepwise(lambda: usage_retire().requests),
        audit=_stepwise(audit_purge),
        events=_stepwise(_events),
        invitations=_stepwise(invitations_forget),
        happenings=_stepwise(deployment_events_purge),
        status=_stepwise(status_purge),
        webhooks=_stepwise(deliveries_purge),
    )
    counts = asdict(done)
    if any(counts.values()):
        log.info("retention.swept", **counts)
    return done


def _events() -> int:
    days = settings.KINDLING_ENV.keep_events_days
    return events_forget(before=now() - timedelta(days=days)) if days else 0


def _stepwise(step: Callable[[], int]) -> int:
    done, until = 0, time.monotonic() + MOST_S
    while deleted := step():
        done += deleted
        if time.monotonic() > until:
            break
    return done
