"""Makes a deployment what it should be, one bounded step at a time.

A step takes the deployment's lease, asks the driver for the wanted replicas, retires the others and
writes down what it saw. Every write happens under the lease: a worker that was away too long writes nothing.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

from django.db import transaction

from kindling_engine.protocol.replica import ReplicaStatus
from kindling_platform.common.clock import now
from kindling_platform.common.leases import lease_release
from kindling_platform.deployments.models import Deployment, Replica
from kindling_platform.deployments.selectors import deployment_rows
from kindling_platform.deployments.services import (
    deployment_apply,
    deployment_lease,
    replica_forget,
    replica_observe,
)
from kindling_workers.drivers.base import Driver, DriverError, DriverUnreachable
from kindling_workers.replicas import WAITING, Health, Wanted, health_of, replicas_wanted

LEASE_S = 60.0
# What is left after this waits for the next sweep; the lease must outlive one more call to the driver.
STEP_S = 30.0
# A host is believed to be alive for so long after it last answered.
SILENCE_S = 10.0
# A stopped replica stays visible for so long.
STOPPED_SHOWN_S = 60.0
# What a host answers that has no memory left for another engine: it may have some later.
NO_ROOM = "no_room"
WAS_LIVE = (Deployment.State.LIVE, Deployment.State.DEGRADED)


class LeaseLost(Exception):
    """Another worker has taken over; this one must not write any more."""


def deployment_reconcile(driver: Driver, deployment_id: str) -> bool:
    """Take one step with a deployment; False when another worker has it or it is gone."""
    token = deployment_lease(deployment_id=deployment_id, ttl_s=LEASE_S)
    if token is None:
        return False
    try:
        deployment = deployment_rows().filter(id=deployment_id).first()
        if deployment is None:
            return False
        health = _Step(driver, deployment, token).take()
        return deployment_apply(
            deployment_id=deployment_id, token=token, state=health.state, reason=health.reason
        )
    except LeaseLost:
        return False
    finally:
        lease_release(Deployment.objects, pk=deployment_id, token=token)


class _Step:
    def __init__(self, driver: Driver, deployment: Deployment, token: str) -> None:
        self._driver = driver
        self._deployment = deployment
        self._token = token
        self._rows = {row.name: row for row in deployment.replicas.all()}
        self._deadline = time.monotonic() + STEP_S

    def take(self) -> Health:
        wanted = replicas_wanted(self._deployment)
        try:
            surplus = [row for name, row in self._rows.items() if name not in wanted]
            for row in surplus:
                self._retire(row)
            seen = [self._run(replica) for replica in wanted.values()]
        except DriverUnreachable as error:
            return self._unheard(error)
        except DriverError as error:
            return Health(self._deployment.state, error.message)
        return health_of(
            wanted=len(wanted),
            states=[state for state, _ in seen],
            reasons=[reason for _, reason in seen],
            was_live=self._deployment.state in WAS_LIVE,
        )

    def _run(self, replica: Wanted) -> tuple[str, str]:
        """Have the replica run; gives its state and reason."""
        spec = replica.spec
        row = self._rows.get(spec.name)
        if time.monotonic() > self._deadline:
            return (row.state, row.reason) if row else ("starting", "")
        if row is None or row.state == "stopped":
            # The row before the process: what runs without one that wants it is an orphan and is ended by the sweep.
            status = ReplicaStatus(name=spec.name, generation=spec.generation, state="starting")
            self._record(status, replica.rank)
        try:
            status = self._driver.ensure(spec)
        except DriverUnreachable:
            raise
        except DriverError as error:
            state = WAITING if error.code == NO_ROOM else "failed"
            status = ReplicaStatus(
                name=spec.name, generation=spec.generation, state=state, reason=error.message
            )
        self._record(status, replica.rank)
        return status.state, status.reason

    def _retire(self, row: Replica) -> None:
        """Stop a replica that is not wanted, later forget its row; its usage log is read to the end all the same."""
        if time.monotonic() > self._deadline:
            return
        if row.state != "stopped":
            self._driver.delete(row.name)
            status = ReplicaStatus(
                name=row.name, generation=row.generation, state="stopped", restarts=row.restarts
            )
            self._record(status, row.rank)
        elif row.heartbeat_at is None or row.heartbeat_at < now() - timedelta(seconds=STOPPED_SHOWN_S):
            with self._leased():
                replica_forget(name=row.name)

    def _unheard(self, error: DriverUnreachable) -> Health:
        """Nobody answers: what was ready counts as ready for a moment, then as lost."""
        limit = now() - timedelta(seconds=SILENCE_S)
        silent = [row for row in self._rows.values() if row.heartbeat_at and row.heartbeat_at < limit]
        for row in silent:
            if row.state in ("ready", "starting", "restarting"):
                since = f"{row.heartbeat_at:%H:%M:%S} UTC"
                reason = f"The agent of its host has not answered since {since}."
                status = ReplicaStatus(
                    name=row.name, generation=row.generation, state="failed", url=row.url,
                    pid=row.pid, restarts=row.restarts, reason=reason,
                )  # fmt: skip
                self._record(status, row.rank, heard=False)
        if silent and self._deployment.state in WAS_LIVE:
            return Health(Deployment.State.DEGRADED, error.message)
        return Health(self._deployment.state, error.message)

    def _record(self, status: ReplicaStatus, rank: int, *, heard: bool = True) -> None:
        with self._leased():
            replica_observe(
                deployment=self._deployment,
                name=status.name,
                generation=status.generation,
                rank=rank,
                state=status.state,
                url=status.url,
                pid=status.pid,
                restarts=status.restarts,
                reason=status.reason,
                ready_at=None if status.ready_ms is None else _moment(status.ready_ms),
                heard=heard,
            )

    @contextmanager
    def _leased(self) -> Iterator[None]:
        """A transaction in which the lease cannot go to anybody else. Errors: LeaseLost."""
        with transaction.atomic():
            mine = Deployment.objects.select_for_update().filter(
                id=self._deployment.id, lease_token=self._token
            )
            if not mine.exists():
                raise LeaseLost
            yield


def _moment(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, UTC)


def orphans_end(driver: Driver) -> list[str]:
    """Stop what runs without a row that wants it; gives the names.

    The driver is asked first: a replica gets its row before it is started, so a row that is missing afterwards
    was missing all the time.
    """
    running = [status.name for status in driver.replica_list()]
    known = set(
        Replica.objects.filter(name__in=running).exclude(state="stopped").values_list("name", flat=True)
    )
    orphans = [name for name in running if name not in known]
    for name in orphans:
        driver.delete(name)
    return orphans
