"""Brings adapters' files into the object store, where there is one: each before it is ready, and those from before.

A store that does not answer is left alone for a moment: whoever wants to put something waits, and says why.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from threading import Lock

import structlog
from django.conf import settings

from kindling_platform.adapters.models import Adapter
from kindling_platform.adapters.storage import blob_folder
from kindling_platform.common.objectstore.blobs import WHOLE, blob_found, blob_listed, blob_put
from kindling_platform.common.objectstore.client import ObjectStore, Stored
from kindling_platform.common.objectstore.errors import DAMAGED, StoreError
from kindling_platform.common.objectstore.manifest import FILES
from kindling_platform.common.objectstore.owner import installation_id, place_claim
from kindling_platform.common.objectstore.place import StorePlace
from kindling_platform.config.env import load_object_store

PAUSE_S = 15.0
# How long a look at all that the store has is believed.
LOOK_KEPT_S = 3600.0
log = structlog.get_logger("kindling.workers")


@dataclass(slots=True)
class _Memory:
    """Of this process and one place: that it is ours, what is there, and until when nothing is tried."""

    is_ours: bool = False
    failure: StoreError | None = None
    paused_until: float = 0.0
    known: set[str] = field(default_factory=set)
    known_until: float = 0.0
    # Files on this disk that are not what their hash says: looked at again with the store.
    damaged: set[str] = field(default_factory=set)
    lock: Lock = field(default_factory=Lock)


@dataclass(frozen=True, slots=True)
class CaughtUp:
    """Of ready adapters: files put into the store, those left to put, and those that are neither there nor here."""

    done: int = 0
    left: int = 0
    lost: int = 0


def object_store() -> ObjectStore | None:
    """The installation's store; None where files are on the disk alone."""
    place = load_object_store()
    return None if place is None else _opened(place)


def store_pause() -> StoreError | None:
    """How the store has just failed, so that whoever would put something may save the work before it."""
    place = load_object_store()
    if place is None or time.monotonic() > _memory(place).paused_until:
        return None
    return _memory(place).failure


def blob_keep(content_hash: str) -> bool:
    """Put an adapter's files into the store; False if it has them already, or there is no store.

    Errors: `StoreError`; OSError when the files here cannot be read.
    """
    place = load_object_store()
    if place is None:
        return False
    memory, paused = _memory(place), store_pause()
    if paused is not None:
        raise StoreError(paused.code, paused.detail, paused.message)
    try:
        _claim(place)
        is_new = blob_put(_opened(place), content_hash, blob_folder(""))
    except StoreError as error:
        if error.code != DAMAGED:
            memory.failure, memory.paused_until = error, time.monotonic() + PAUSE_S
        log.warning(
            "adapters.not_stored",
            adapter=content_hash,
            code=error.code,
            reason=error.message,
            detail=error.detail,
        )
        raise
    memory.failure = None
    memory.known.add(content_hash)
    return is_new


def blobs_catch_up(*, within_s: float) -> CaughtUp:
    """Put what ready adapters have on this disk alone, for a while; the next run goes on.

    Errors: `StoreError`.
    """
    place = load_object_store()
    if place is None:
        return CaughtUp()
    memory, until = _memory(place), time.monotonic() + within_s
    with memory.lock:
        _look(place, memory)
    done = lost = 0
    passed = memory.known | memory.damaged
    left = [content_hash for content_hash in _ready_hashes() if content_hash not in passed]
    for content_hash in left:
        if time.monotonic() > until:
            break
        if not blob_folder(content_hash).is_dir():
            # It may have come to the store since that was looked at.
            if blob_found(_opened(place), content_hash) is None:
                lost += 1
            else:
                memory.known.add(content_hash)
            continue
        done += _caught_up(content_hash, memory)
    passed = memory.known | memory.damaged
    still = [content_hash for content_hash in left if content_hash not in passed]
    return CaughtUp(done=done, left=len(still) - lost, lost=lost)


def _caught_up(content_hash: str, memory: _Memory) -> bool:
    """One that cannot be read, or is damaged, holds up no other."""
    try:
        blob_keep(content_hash)
    except OSError as error:
        log.warning("adapters.not_stored", adapter=content_hash, reason=error.strerror)
    except StoreError as error:
        if error.code != DAMAGED:
            raise
    else:
        return True
    memory.damaged.add(content_hash)
    return False


def _look(place: StorePlace, memory: _Memory) -> None:
    if time.monotonic() < memory.known_until:
        return
    _claim(place)
    memory.known = {
        content_hash
        for content_hash, objects in blob_listed(_opened(place))
        if _seems_whole(content_hash, objects)
    }
    memory.damaged = set()
    memory.known_until = time.monotonic() + LOOK_KEPT_S


def _seems_whole(content_hash: str, objects: dict[str, Stored]) -> bool:
    """Whether everything is there, with the sizes that the files have here, if they are here as well."""
    if WHOLE not in objects:
        return False
    for name in FILES:
        path = blob_folder(content_hash) / name
        stored = objects[name].size_bytes if name in objects else 0
        try:
            if not stored or stored != path.stat().st_size:
                return False
        except FileNotFoundError:
            continue
    return True


def _ready_hashes() -> Iterator[str]:
    rows = Adapter.objects.filter(state=Adapter.State.READY).exclude(content_hash="")
    return rows.order_by("content_hash").values_list("content_hash", flat=True).distinct().iterator()


def _claim(place: StorePlace) -> None:
    memory = _memory(place)
    if not memory.is_ours:
        place_claim(_opened(place), installation_id(settings.SECRET_KEY))
        memory.is_ours = True


@cache
def _opened(place: StorePlace) -> ObjectStore:
    return ObjectStore(place)


@cache
def _memory(_place: StorePlace) -> _Memory:
    return _Memory()
