"""Deletes what happened to deployments long ago; hours and intervals stay, as they say what was billed."""

from datetime import timedelta

from kindling_platform.common.clock import now
from kindling_platform.common.purging import purged
from kindling_platform.deployments.models import DeploymentEvent

KEPT = timedelta(days=90)
STEP_ROWS = 1000


def deployment_events_purge() -> int:
    """Delete a step of the events that are old enough; gives their number."""
    return purged(DeploymentEvent.objects.filter(created_at__lt=now() - KEPT), limit=STEP_ROWS, batches=1)
