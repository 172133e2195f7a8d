"""How long replicas held their devices, and how much of it they computed; observations that may be repeated.

An interval is a chain of heartbeats of one process. It ends at its last one: when the process is gone, when another has
its name, or when nobody heard of it for a minute. So no time is counted in which nobody knew whether it ran.
"""

from datetime import datetime, timedelta

from django.db import connection, transaction
from django.db.models import F
from django.db.models.functions import Coalesce, Greatest

from kindling_platform.common.clock import now
from kindling_platform.deployments.models import Deployment, ReplicaHour, ReplicaInterval

MOST_APART = timedelta(seconds=60)
A_MICROSECOND = timedelta(microseconds=1)


def interval_heard(
    *, deployment: Deployment, name: str, pid: int | None, restarts: int, at: datetime, is_ready: bool
) -> None:
    """Lengthen a replica's interval to a heartbeat, or begin one; without a process it ends where it was last heard.

    Its organisation pays from the first heartbeat on at which it was ready. Call it inside a transaction that has the
    deployment's lease.
    """
    if pid is not None:
        same = ReplicaInterval.objects.filter(
            replica_name=name, ended_at=None, pid=pid, restarts=restarts, last_seen_at__gte=at - MOST_APART
        )
        if same.update(last_seen_at=Greatest(F("last_seen_at"), at), **_since(deployment, at, is_ready)):
            return
    interval_end(name=name)
    if pid is not None:
        ReplicaInterval.objects.create(
            organisation_id=deployment.organisation_id,
            deployment_id=deployment.id,
            model_id=deployment.model_id,
            replica_name=name,
            pid=pid,
            restarts=restarts,
            started_at=at,
            last_seen_at=at,
            ready_at=at if is_ready else None,
            billed_until=at if is_ready and not deployment.organisation.is_operator else None,
        )


def interval_end(*, name: str) -> None:
    """End a replica's interval at its last heartbeat."""
    ReplicaInterval.objects.filter(replica_name=name, ended_at=None).update(ended_at=F("last_seen_at"))


def intervals_end_unheard() -> int:
    """End every interval that nobody has heard of for a minute, at its last heartbeat; how many."""
    unheard = ReplicaInterval.objects.filter(ended_at=None, last_seen_at__lt=now() - MOST_APART)
    return unheard.update(ended_at=F("last_seen_at"))


@transaction.atomic
def interval_look(*, name: str, engine_us: int, at: datetime) -> None:
    """Take in how long a replica's engine has computed since its start, by its own count, as of a moment.

    What it grew by belongs to the hour of the look, and is never more than the time that passed since the last one.
    """
    interval = ReplicaInterval.objects.select_for_update().filter(replica_name=name, ended_at=None).first()
    if interval is None:
        return
    since = max(interval.looked_at or interval.started_at, interval.started_at)
    passed_us = (at - since) // A_MICROSECOND
    if passed_us <= 0:
        return
    grown_us = engine_us - interval.engine_us if engine_us >= interval.engine_us else engine_us
    _hour_add(interval, at, busy_us=min(grown_us, passed_us), looked_us=passed_us)
    interval.engine_us, interval.looked_at = engine_us, at
    interval.save(update_fields=["engine_us", "looked_at"])


def _since(deployment: Deployment, at: datetime, is_ready: bool) -> dict[str, Coalesce]:
    """What the first heartbeat of an engine that is ready sets; later ones find it set."""
    if not is_ready:
        return {}
    names = ("ready_at",) if deployment.organisation.is_operator else ("ready_at", "billed_until")
    return {name: Coalesce(F(name), at) for name in names}


def _hour_add(interval: ReplicaInterval, at: datetime, *, busy_us: int, looked_us: int) -> None:
    table = ReplicaHour._meta.db_table
    with connection.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO {table} AS known (interval_id, hour, busy_us, looked_us) VALUES (%s, %s, %s, %s)"  # noqa: S608
            " ON CONFLICT (interval_id, hour) DO UPDATE SET busy_us = known.busy_us + excluded.busy_us,"
            " looked_us = known.looked_us + excluded.looked_us",
            [interval.id, at.replace(minute=0, second=0, microsecond=0), busy_us, looked_us],
        )
