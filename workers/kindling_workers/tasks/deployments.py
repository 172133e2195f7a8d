"""Wake-ups of the reconciler, and of what meters and bills its replicas."""

import structlog

from kindling_platform.deployments.selectors import deployment_is_moving, deployment_list_unsettled
from kindling_workers.app import app
from kindling_workers.billing import gpu_time_bill
from kindling_workers.books import deadlines_hold
from kindling_workers.complaints import complaints
from kindling_workers.drivers.base import DriverError
from kindling_workers.drivers.choice import driver_get
from kindling_workers.metering import replicas_look
from kindling_workers.reconciler import deployment_reconcile, orphans_end
from kindling_workers.ticks import tick
from kindling_workers.valkey import valkey_client
from kindling_workers.wallets import Wallets

log = structlog.get_logger("kindling.workers")
# A message that waited longer than this is doubled by the next sweep's.
EXPIRES_S = 10
# Between two sweeps; the next one goes on.
LOOKS, LOOK_EVERY_S = 3, 0.5


@app.task(name="deployments.reconcile")
def reconcile(deployment_id: str, looks: int = LOOKS) -> None:
    """Take a step; what is about to be ready is looked at more often than the sweep does."""
    deployment_reconcile(driver_get(), deployment_id)
    if looks and deployment_is_moving(deployment_id):
        again = {"deployment_id": deployment_id, "looks": looks - 1}
        reconcile.apply_async(kwargs=again, countdown=LOOK_EVERY_S, expires=EXPIRES_S)


@app.task(name="deployments.sweep")
def sweep() -> None:
    with tick("deployments.sweep") as mine:
        if not mine:
            return
        for deployment_id in deployment_list_unsettled():
            reconcile.apply_async(kwargs={"deployment_id": deployment_id}, expires=EXPIRES_S)
        try:
            orphans = orphans_end(driver_get())
        except DriverError as error:
            complaints.complain("deployments.sweep driver", error.message)
            return
        complaints.content("deployments.sweep driver")
        if orphans:
            log.warning("deployments.orphans_ended", replicas=orphans)


@app.task(name="deployments.bill")
def bill() -> None:
    with tick("deployments.bill") as mine:
        if mine and deadlines_hold():
            gpu_time_bill(Wallets(valkey_client()))


@app.task(name="deployments.meter")
def meter() -> None:
    with tick("deployments.meter") as mine:
        if mine:
            replicas_look()
