"""What has arrived of a file, with its digest: a client goes on only with the file that began to arrive."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from kindling_billing.pooled import connection_lend
from kindling_platform.accounts.models import Organisation
from kindling_platform.adapters.guards import adapter_uploading_get
from kindling_platform.adapters.models import AdapterFile
from kindling_platform.adapters.storage import upload_folder
from kindling_platform.common.errors import not_found
from kindling_platform.common.objectstore.manifest import BLOCK_BYTES


@dataclass(frozen=True, slots=True)
class Arrived:
    """The beginning of a file that is here, and the sha256 of just these bytes."""

    name: str
    size_bytes: int
    received_bytes: int
    sha256: str


def arrived_get(*, org: Organisation, adapter_id: str, name: str) -> Arrived:
    """What has arrived of a file of an open upload; reads all of it, a second for each gigabyte or so.

    Two trainings of an adapter have files of the same names, sizes and headers, so only their bytes tell them apart.

    Raises:
        KindlingError: not_found, not_uploading, adapter_rejected.
    """
    adapter = adapter_uploading_get(org=org, adapter_id=adapter_id)
    file: AdapterFile | None = adapter.files.filter(name=name).first()
    if file is None:
        raise not_found("file")
    connection_lend()
    read_bytes, digest = _beginning(upload_folder(adapter.id) / file.name, file.received_bytes)
    return Arrived(file.name, file.size_bytes, read_bytes, digest)


def _beginning(path: Path, size_bytes: int) -> tuple[int, str]:
    """How much was read, which is less than was noted after a power loss, and its sha256."""
    digest, read_bytes = hashlib.sha256(), 0
    try:
        file = path.open("rb")
    except FileNotFoundError:  # nothing has arrived, or the upload makes way at this moment
        return 0, digest.hexdigest()
    with file:
        # Somebody may write behind it at this moment; that is not part of what is told.
        while block := file.read(min(BLOCK_BYTES, size_bytes - read_bytes)):
            digest.update(block)
            read_bytes += len(block)
    return read_bytes, digest.hexdigest()
