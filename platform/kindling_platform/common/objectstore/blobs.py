"""Adapters' folders in the object store: `blobs/<content hash>/<file>`, and last of all a list of them.

A folder is whole when that list is there and each file has its size. Whoever is killed while it puts or deletes one
leaves a folder that is not whole, and the next try begins anew.
"""

import errno
import os
import shutil
import time
from collections.abc import Callable, Iterator
from itertools import groupby
from pathlib import Path

import msgspec

from kindling_platform.common.objectstore.client import ObjectStore, Stored
from kindling_platform.common.objectstore.errors import DAMAGED, DISK_FULL, MISSING, SLOW, StoreError
from kindling_platform.common.objectstore.local import (
    PARTIAL,
    folder_settle,
    names_locked,
    puts_locked,
    room_checked,
)
from kindling_platform.common.objectstore.manifest import (
    MOST_BYTES,
    Digest,
    FileFacts,
    Manifest,
    manifest_of,
    manifest_read,
)

ROOT = "blobs"
WHOLE, UNNEEDED = "whole.json", "unneeded"
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# How long a fetch may take: a while for any, and what its bytes take on a slow line.
FETCH_WITHIN_S = 60.0
SLOWEST_BYTES_PER_S = 4 * 2**20


def key(content_hash: str, name: str) -> str:
    return f"{ROOT}/{content_hash}/{name}"


def blob_listed(store: ObjectStore) -> Iterator[tuple[str, dict[str, Stored]]]:
    """Each folder of the store with its objects by name. Errors: `StoreError`."""
    ours = (one for one in store.listed(ROOT) if one.key.count("/") == 2)
    for content_hash, objects in groupby(ours, lambda one: one.key.split("/")[1]):
        yield content_hash, {one.key.rsplit("/", 1)[1]: one for one in objects}


def blob_found(store: ObjectStore, content_hash: str) -> Manifest | None:
    """The list of a folder's files if all of it is in the store. Errors: `StoreError`."""
    manifest = _listed_files(store, content_hash)
    if manifest is None or manifest.content_hash != content_hash:
        return None
    sizes = {
        one.key.rsplit("/", 1)[1]: one.size_bytes for one in store.listed(key(content_hash, "").rstrip("/"))
    }
    whole = all(sizes.get(name) == file.size_bytes for name, file in manifest.files.items())
    return manifest if whole else None


def blob_put(store: ObjectStore, content_hash: str, blobs: Path) -> bool:
    """Bring a folder of this disk into the store; False if it was there. Twice is the same as once.

    Errors: `StoreError`, also for files that are not what their hash says; OSError for those that cannot be read.
    """
    with puts_locked(blobs):
        # What nobody needed a moment ago is needed again.
        store.delete(key(content_hash, UNNEEDED))
        if blob_found(store, content_hash) is not None:
            return False
        folder = blobs / content_hash
        manifest = manifest_of(folder)
        if manifest.content_hash != content_hash:
            raise StoreError(DAMAGED, message="The files on this host are not what their hash says.")
        for name in manifest.files:
            store.put_file(key(content_hash, name), folder / name)
        store.put(key(content_hash, WHOLE), msgspec.json.encode(manifest))
    return True


def blob_delete(store: ObjectStore, content_hash: str, names: list[str]) -> None:
    """The list goes first, so that nobody takes the rest for whole. Errors: `StoreError`."""
    for name in sorted(names, key=lambda name: (name != WHOLE, name == UNNEEDED)):
        store.delete(key(content_hash, name))


def blob_fetch(
    store: ObjectStore,
    content_hash: str,
    blobs: Path,
    *,
    room: Callable[[int], object] = lambda size_bytes: None,
    within_s: float = FETCH_WITHIN_S,
    is_stopped: Callable[[], bool] = lambda: False,
) -> int:
    """Bring a folder of the store to this disk, under its name when each file is what it shall be; gives its bytes.

    `room` is asked for so many bytes before. Errors: `StoreError`, and nothing is left of a try that failed.
    """
    manifest = _listed_files(store, content_hash)
    if manifest is None:
        raise StoreError(MISSING)
    if manifest.content_hash != content_hash:
        raise StoreError(DAMAGED)
    deadline = time.monotonic() + within_s + manifest.size_bytes / SLOWEST_BYTES_PER_S

    def is_late() -> bool:
        return is_stopped() or time.monotonic() > deadline

    room(manifest.size_bytes)
    blobs.mkdir(parents=True, exist_ok=True)
    room_checked(blobs, manifest.size_bytes)
    partial = blobs / f"{PARTIAL}{content_hash}"
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir()
        for name, facts in manifest.files.items():
            blocks = store.blocks(key(content_hash, name), facts.size_bytes)
            if _brought(blocks, partial / name, is_late) != facts:
                raise StoreError(DAMAGED)
        folder_settle(partial)
        _named(partial, blobs / content_hash)
    except OSError as error:
        if error.errno not in NO_ROOM:
            raise
        raise StoreError(DISK_FULL) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return manifest.size_bytes


def _listed_files(store: ObjectStore, content_hash: str) -> Manifest | None:
    data = store.get(key(content_hash, WHOLE), most_bytes=MOST_BYTES)
    return None if data is None else manifest_read(data)


def _brought(blocks: Iterator[bytes], path: Path, is_late: Callable[[], bool]) -> FileFacts:
    digest = Digest()
    with path.open("wb") as file:
        for block in blocks:
            if is_late():
                raise StoreError(SLOW)
            file.write(block)
            digest.take(block)
        file.flush()
        os.fsync(file.fileno())
    path.chmod(0o644)
    return digest.facts()


def _named(partial: Path, blob: Path) -> None:
    with names_locked(blob.parent):
        try:
            partial.rename(blob)
        except OSError:  # it has come another way meanwhile
            if not blob.exists():
                raise
        os.utime(blob)
        folder_settle(blob.parent)
