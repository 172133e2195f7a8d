"""Wake-ups that delete what has been kept long enough."""

from kindling_workers.app import app
from kindling_workers.books import deadlines_hold
from kindling_workers.drivers.choice import driver_get
from kindling_workers.retention import retention_sweep
from kindling_workers.ticks import tick
from kindling_workers.usage_logs import usage_logs_forget


@app.task(name="retention.sweep")
def sweep() -> None:
    with tick("retention.sweep") as mine:
        # A clock that is wrong would delete what is young.
        if mine and deadlines_hold():
            retention_sweep()
            usage_logs_forget(driver_get())
