"""Wake-ups that send webhooks, and find batches that have ended."""

from kindling_platform.hooks.batches import batch_events_write
from kindling_workers.app import app
from kindling_workers.hooks import hooks_deliver
from kindling_workers.ticks import tick


@app.task(name="hooks.deliver")
def deliver() -> None:
    with tick("hooks.deliver") as mine:
        if mine:
            hooks_deliver()


@app.task(name="hooks.batches")
def batches() -> None:
    with tick("hooks.batches") as mine:
        if mine:
            batch_events_write()
