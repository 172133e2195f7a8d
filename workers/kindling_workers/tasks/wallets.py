"""Wake-ups of the comparison between Valkey and the ledger."""

from typing import Any

from celery.signals import worker_ready

from kindling_workers.app import app
from kindling_workers.ticks import tick
from kindling_workers.valkey import valkey_client
from kindling_workers.wallets import Wallets


@app.task(name="wallets.refresh")
def refresh() -> None:
    with tick("wallets.refresh") as mine:
        if mine:
            Wallets(valkey_client()).refresh()


@worker_ready.connect
def refresh_after_start(**_: Any) -> None:
    """A worker that was killed may have posted and not told: compare as soon as one lives again."""
    refresh.delay()
