"""Wake-ups of the downloads and the validation of adapters, and of what tidies their files."""

from dataclasses import asdict
from threading import Lock

import structlog

from kindling_platform.adapters.hub_fetch import hub_fetch_list_due
from kindling_platform.adapters.selectors import adapter_list_unvalidated
from kindling_platform.adapters.services import upload_list_expire
from kindling_platform.adapters.stored import blobs_catch_up, object_store
from kindling_platform.adapters.stored_tidying import stored_tidy
from kindling_platform.adapters.tidying import files_tidy
from kindling_workers.app import app
from kindling_workers.books import deadlines_hold
from kindling_workers.complaints import complaints
from kindling_workers.hub_fetch import hub_fetch_step
from kindling_workers.ticks import tick
from kindling_workers.validation import adapter_validate
from kindling_workers.valkey import valkey_client

# A message that waited longer than this is doubled by the next sweep's.
EXPIRES_S = 30
# Of one run, which another follows half a minute after it began.
STORE_WITHIN_S = 15.0
log = structlog.get_logger("kindling.workers")
# Each may read gigabytes and wait a minute for an engine; the threads of a worker are there for others as well.
_turn = Lock()
# A download may wait for the network all the time, which must not hold up the checks.
_fetch_turn = Lock()


@app.task(name="adapters.validate")
def validate(adapter_id: str) -> None:
    # Whoever finds another at work leaves: the next sweep wakes this one again.
    if not _turn.acquire(blocking=False):
        return
    try:
        adapter_validate(adapter_id=adapter_id, valkey=valkey_client())
    finally:
        _turn.release()


@app.task(name="adapters.fetch")
def fetch() -> None:
    """One step of the download whose turn it is, and a word to the next."""
    if not _fetch_turn.acquire(blocking=False):
        return
    try:
        done = any(hub_fetch_step(adapter_id=adapter_id) for adapter_id in hub_fetch_list_due())
    finally:
        _fetch_turn.release()
    if done:
        fetch.apply_async(expires=EXPIRES_S)


@app.task(name="adapters.sweep")
def sweep() -> None:
    with tick("adapters.sweep") as mine:
        if not mine:
            return
        if hub_fetch_list_due(1):
            fetch.apply_async(expires=EXPIRES_S)
        for adapter_id in adapter_list_unvalidated():
            validate.apply_async(kwargs={"adapter_id": adapter_id}, expires=EXPIRES_S)
        upload_list_expire()


@app.task(name="adapters.tidy")
def tidy() -> None:
    with tick("adapters.tidy") as mine:
        # A clock that is wrong would delete what is young.
        if not mine or not deadlines_hold():
            return
        done = asdict(files_tidy())
        if any(done.values()):
            log.info("adapters.tidied", **done)
        in_store = asdict(stored_tidy())
        if any(in_store.values()):
            log.info("adapters.store_tidied", **in_store)


@app.task(name="adapters.store")
def store() -> None:
    """Put what is on this disk alone; a store that was set up later gets all that was there before."""
    if object_store() is None:
        return
    with tick("adapters.store") as mine:
        if not mine:
            return
        done = blobs_catch_up(within_s=STORE_WITHIN_S)
        if done.done or done.left:
            log.info("adapters.stored", done=done.done, left=done.left)
        if done.lost:
            text = (
                f"Of {done.lost} ready adapters the files are neither on this disk nor in the object store."
            )
            complaints.complain("adapters.lost", text)
        else:
            complaints.content("adapters.lost")
