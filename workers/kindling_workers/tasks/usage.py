"""Wake-ups of the ingest."""

from threading import Event

from kindling_platform.usage.replies import replies_purge
from kindling_platform.usage.spooled import spool_purge
from kindling_workers.app import app
from kindling_workers.booking import spool_carry, witnesses_tell
from kindling_workers.drivers.choice import driver_get
from kindling_workers.ingest import logs_ingest
from kindling_workers.ticks import tick
from kindling_workers.valkey import valkey_client
from kindling_workers.wallets import Wallets

# Set when Valkey missed a message: the next tick compares at once instead of within the minute.
refresh_due = Event()


@app.task(name="usage.ingest")
def ingest() -> None:
    with tick("usage.ingest") as mine:
        if not mine:
            return
        wallets = Wallets(valkey_client())
        if logs_ingest(driver_get(), wallets).untold:
            refresh_due.set()
        elif refresh_due.is_set():
            wallets.refresh()
            refresh_due.clear()


@app.task(name="usage.book")
def book() -> None:
    with tick("usage.book") as mine:
        if mine and spool_carry(Wallets(valkey_client())):
            refresh_due.set()


@app.task(name="usage.compare")
def compare() -> None:
    with tick("usage.compare") as mine:
        if mine:
            witnesses_tell(valkey_client())
            spool_purge()
            replies_purge()
