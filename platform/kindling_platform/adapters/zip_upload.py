"""Receives an adapter as one zip file."""

from collections.abc import Iterable

from kindling_platform.accounts.actor import Actor
from kindling_platform.accounts.models import Organisation
from kindling_platform.adapters.archive import archive_open, archive_read
from kindling_platform.adapters.files import LIMITS_BYTES
from kindling_platform.adapters.guards import adapter_sendable_get
from kindling_platform.adapters.models import Adapter
from kindling_platform.adapters.receiving import file_receive
from kindling_platform.adapters.selectors import adapter_get
from kindling_platform.adapters.storage import room_checked, upload_locked, upload_write

ZIP = "upload.zip"
MAX_ZIP_BYTES = sum(LIMITS_BYTES.values())


def adapter_zip_put(*, org: Organisation, adapter_id: str, blocks: Iterable[bytes], actor: Actor) -> Adapter:
    """Receive a zip and take its files, as if they had been uploaded one by one.

    Raises:
        KindlingError: those of `archive_open` and `adapter_file_put`. A refused zip leaves nothing behind.
    """
    adapter = adapter_sendable_get(org=org, adapter_id=adapter_id)
    with upload_locked(adapter.id) as folder:
        adapter = adapter_sendable_get(org=org, adapter_id=adapter_id)
        path = folder / ZIP
        try:
            upload_write(path, offset=0, blocks=blocks, limit_bytes=MAX_ZIP_BYTES)
            entries = archive_open(path)
            room_checked(sum(entry.file_size for entry in entries.values()))
            for name in sorted(entries):  # the config first: it is small and says most
                file_receive(
                    adapter=adapter,
                    folder=folder,
                    name=name,
                    blocks=archive_read(path, entries[name]),
                    actor=actor,
                    offset=0,
                    total_bytes=entries[name].file_size,
                    part_bytes=None,
                )
        finally:
            path.unlink(missing_ok=True)
    return adapter_get(org=org, adapter_id=adapter_id)
