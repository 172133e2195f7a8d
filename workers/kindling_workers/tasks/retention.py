"""Wake-ups that delete what has been kept long enough."""

from kindling_workers.app import app
from kindling_workers.books import deadlines_hold
from kindling_workers.retention import retention_sweep
from kindling_workers.ticks import tick


@app.task(name="retention.sweep")
def sweep() -> None:
    with tick("retention.sweep") as mine:
        # A clock that is wrong would delete what is young.
        if mine and deadlines_hold():
            retention_sweep()
