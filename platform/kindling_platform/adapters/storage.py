"""Adapter files on disk: uploads in progress, and finished ones by content hash, moved there in one step."""

import errno
import fcntl
import os
import shutil
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from django.conf import settings

from kindling_platform.adapters.files import NEEDED
from kindling_platform.common.errors import KindlingError
from kindling_platform.common.objectstore.local import LOCK, folder_settle, names_locked
from kindling_platform.common.objectstore.manifest import manifest_of

SPARE_BYTES = 256 * 1024 * 1024
PARTIAL = "."
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def upload_folder(adapter_id: str) -> Path:
    """Where the files of an upload gather."""
    return Path(settings.KINDLING_ENV.home) / "uploads" / adapter_id


def blob_folder(content_hash: str) -> Path:
    """Where the files with this content are kept."""
    return Path(settings.KINDLING_ENV.home) / "blobs" / content_hash


def room_checked(size_bytes: int) -> None:
    """Make sure that an upload of this size fits on the disk.

    Raises:
        KindlingError: disk_full.
    """
    home = Path(settings.KINDLING_ENV.home)
    home.mkdir(parents=True, exist_ok=True)
    if shutil.disk_usage(home).free < size_bytes + SPARE_BYTES:
        raise _disk_full()


@contextmanager
def upload_locked(adapter_id: str) -> Iterator[Path]:
    """Be the only one who changes an upload's files; gives their folder.

    Raises:
        KindlingError: upload_busy, while another request writes.
    """
    folder = upload_folder(adapter_id)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LOCK).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            text = "Another request is sending this upload at the moment; wait for it to end."
            raise KindlingError("upload_busy", text, 409) from error
        yield folder


def upload_write(path: Path, *, offset: int, blocks: Iterable[bytes], limit_bytes: int) -> int:
    """Write blocks from an offset on and cut off what stood behind; returns how many bytes were written.

    The file is a prefix of what the client has at any time, so an interrupted request can be resumed.

    Raises:
        KindlingError: range_mismatch, file_too_large, disk_full.
    """
    written = 0
    with _space_needed(), path.open("r+b" if path.exists() else "w+b") as file:
        size = file.seek(0, os.SEEK_END)
        if offset > size:
            # After a power loss the disk may have less than was noted; beyond its end there would be zeros.
            text = f"{path.name} has {size:,} bytes; go on from there."
            raise KindlingError("range_mismatch", text, 416, param="name")
        file.truncate(offset)
        file.seek(offset)
        for block in blocks:
            if offset + written + len(block) > limit_bytes:
                file.truncate(offset)
                text = f"{path.name} is larger than the {limit_bytes:,} bytes that were announced."
                raise KindlingError("file_too_large", text, 413)
            file.write(block)
            written += len(block)
    return written


def file_settle(path: Path) -> int:
    """Bring a file to the disk, so that its size may be noted; gives that."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        return os.fstat(file.fileno()).st_size


def upload_idle_s(adapter_id: str) -> float:
    """For how long nothing was written to an upload, in seconds."""
    written = [path.stat().st_mtime for path in upload_folder(adapter_id).glob("*")]
    return time.time() - max(written, default=0.0)


def blob_store(*, adapter_id: str) -> str:
    """Copy the two files that are served to their content's place; returns the hash. Twice is the same as once.

    A copy, and the hash is the copy's: a request that still writes to the upload must not reach what was checked. It
    is on the disk before it has its name, and then young: what is old and nobody's may be deleted at any time.

    Raises:
        KindlingError: disk_full; nothing is left of the copy then.
    """
    folder = upload_folder(adapter_id)
    partial = blob_folder(f"{PARTIAL}{adapter_id}")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        with _space_needed():
            partial.mkdir(parents=True)
            for name in NEEDED:
                shutil.copyfile(folder / name, partial / name)
                (partial / name).chmod(0o644)
                file_settle(partial / name)
            folder_settle(partial)
    except KindlingError:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    content_hash = content_hash_of(partial)
    blob = blob_folder(content_hash)
    with blobs_locked():
        try:
            partial.rename(blob)
        except OSError:  # the same content is there already
            shutil.rmtree(partial, ignore_errors=True)
            if not blob.exists():
                raise
        os.utime(blob)
        folder_settle(blob.parent)
    return content_hash


@contextmanager
def blobs_locked() -> Iterator[None]:
    """Be the only one who gives a blob its name or takes it away; for moments."""
    with names_locked(blob_folder("")):
        yield


def blob_release(content_hash: str) -> None:
    """One adapter less needs it: from now on it is kept for as long as requests that run may want it."""
    if content_hash:
        with suppress(OSError):
            os.utime(blob_folder(content_hash))


def content_hash_of(folder: Path) -> str:
    """Identity of an adapter: sha256 over the names and sha256s of its files."""
    return manifest_of(folder).content_hash


def upload_discard(*, adapter_id: str) -> None:
    """Remove an upload's files."""
    shutil.rmtree(upload_folder(adapter_id), ignore_errors=True)


@contextmanager
def _space_needed() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in FULL:
            raise
        raise _disk_full() from error


def _disk_full() -> KindlingError:
    return KindlingError("disk_full", "The server has no space left for this upload; try again later.", 507)
