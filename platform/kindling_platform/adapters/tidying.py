"""Deletes files that no adapter needs any more; may be cut off anywhere, and the next run goes on."""

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from kindling_platform.adapters.models import Adapter
from kindling_platform.adapters.storage import PARTIAL, blob_folder, blobs_locked, upload_folder

# What is younger may still be in somebody's hands, whatever the rows say.
KEPT_S = 3600.0
# Of each kind in one run.
MOST = 1000
COPY = f"{PARTIAL}adp_"
GONE = f"{COPY}gone_"
HASH_LENGTH = 64
OPEN = (Adapter.State.UPLOADING, Adapter.State.VALIDATING)
NEEDS_BLOB = (Adapter.State.READY, Adapter.State.VALIDATING)


@dataclass(frozen=True, slots=True)
class Tidied:
    """How many folders of each kind a run deleted."""

    uploads: int = 0
    copies: int = 0
    blobs: int = 0


def files_tidy() -> Tidied:
    """Delete uploads whose adapter takes no files any more, copies that were never finished, blobs that nobody serves.

    A database without a single adapter is a new one, or the wrong one: it says nothing about these files.
    """
    if not Adapter.objects.exists():
        return Tidied()
    return Tidied(
        uploads=_delete(_unneeded(upload_folder(""), _uploads_open, lambda name: True), shutil.rmtree),
        copies=_delete(_old(blob_folder(""), lambda name: name.startswith(COPY)), shutil.rmtree),
        blobs=_delete(
            _unneeded(blob_folder(""), blobs_needed, lambda name: len(name) == HASH_LENGTH), _blob_delete
        ),
    )


def _old(root: Path, named: Callable[[str], bool]) -> Iterator[Path]:
    if root.is_dir():
        yield from (path for path in root.iterdir() if named(path.name) and path.is_dir() and _is_old(path))


def _unneeded(
    root: Path, needed: Callable[[list[str]], set[str]], named: Callable[[str], bool]
) -> Iterator[Path]:
    found = _old(root, named)
    while batch := list(islice(found, MOST)):
        keep = needed([path.name for path in batch])
        yield from (path for path in batch if path.name not in keep)


def _delete(paths: Iterator[Path], delete: Callable[[Path], object]) -> int:
    done = 0
    for path in islice(paths, MOST):
        # One that cannot be deleted holds up no other.
        with suppress(OSError):
            delete(path)
            done += not path.exists()
    return done


def _blob_delete(blob: Path) -> None:
    """Take its name away first, so that nobody finds half of it, and look again: it may have been stored anew."""
    gone = blob.with_name(f"{GONE}{blob.name}")
    with blobs_locked():
        if not _is_old(blob):
            return
        blob.rename(gone)
    shutil.rmtree(gone)


def _is_old(folder: Path) -> bool:
    """Whether nothing happened to a folder and its files for long."""
    try:
        newest = max(path.stat().st_mtime for path in (folder, *folder.iterdir()))
    except OSError:
        return False
    return time.time() - newest > KEPT_S


def _uploads_open(ids: list[str]) -> set[str]:
    return set(Adapter.objects.filter(id__in=ids, state__in=OPEN).values_list("id", flat=True))


def blobs_needed(hashes: list[str]) -> set[str]:
    """Those of these contents that an adapter has which is ready or being checked."""
    rows = Adapter.objects.filter(content_hash__in=hashes, state__in=NEEDS_BLOB)
    return set(rows.values_list("content_hash", flat=True))
