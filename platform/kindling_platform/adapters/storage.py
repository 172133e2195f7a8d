"""Adapter files on disk: uploads in progress, and finished ones by content hash, moved there in one step."""

import hashlib
import shutil
from collections.abc import Iterable
from pathlib import Path

from django.conf import settings

from kindling_platform.adapters.files import CONFIG, WEIGHTS
from kindling_platform.common.errors import KindlingError

BLOCK_BYTES = 1024 * 1024
SPARE_BYTES = 64 * 1024 * 1024


def upload_folder(adapter_id: str) -> Path:
    """Where the files of an upload gather."""
    return Path(settings.KINDLING_ENV.home) / "uploads" / adapter_id


def blob_folder(content_hash: str) -> Path:
    """Where the files with this content are kept."""
    return Path(settings.KINDLING_ENV.home) / "blobs" / content_hash


def upload_write(
    *, adapter_id: str, name: str, offset: int, blocks: Iterable[bytes], limit_bytes: int
) -> int:
    """Write blocks at an offset of an upload's file; returns how many bytes were written.

    Raises:
        KindlingError: file_too_large, disk_full. What was written before stays and can be resumed.
    """
    path = upload_folder(adapter_id) / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if shutil.disk_usage(path.parent).free < SPARE_BYTES:
        raise KindlingError("disk_full", "The server has no space left for uploads; try again later.", 507)
    written = 0
    with path.open("r+b" if path.exists() else "w+b") as file:
        file.seek(offset)
        for block in blocks:
            if offset + written + len(block) > limit_bytes:
                raise KindlingError(
                    "file_too_large", f"{name} is larger than the {limit_bytes:,} bytes declared.", 413
                )
            file.write(block)
            written += len(block)
    return written


def blob_store(*, adapter_id: str) -> str:
    """Copy an upload's two files to their content's place; returns the hash. Twice is the same as once.

    A copy, and the hash is the copy's: a request that still writes to the upload must not reach what was checked.
    """
    folder = upload_folder(adapter_id)
    partial = blob_folder(f".{adapter_id}")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    for name in (CONFIG, WEIGHTS):
        shutil.copyfile(folder / name, partial / name)
        (partial / name).chmod(0o644)
    content_hash = content_hash_of(partial)
    try:
        partial.rename(blob_folder(content_hash))
    except OSError:  # the same content is there already
        shutil.rmtree(partial, ignore_errors=True)
        if not blob_folder(content_hash).exists():
            raise
    return content_hash


def content_hash_of(folder: Path) -> str:
    """Identity of an adapter: sha256 over the names and sha256s of its files."""
    whole = hashlib.sha256()
    for name in sorted((CONFIG, WEIGHTS)):
        part = hashlib.sha256()
        with (folder / name).open("rb") as file:
            while block := file.read(BLOCK_BYTES):
                part.update(block)
        whole.update(f"{name}\0{part.hexdigest()}\n".encode())
    return whole.hexdigest()


def upload_discard(*, adapter_id: str) -> None:
    """Remove an upload's files."""
    shutil.rmtree(upload_folder(adapter_id), ignore_errors=True)
