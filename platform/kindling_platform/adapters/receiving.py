"""Takes in the bytes of one file, and looks at them while they arrive."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from django.db import transaction

from kindling_platform.accounts.actor import Actor
from kindling_platform.adapters.early_check import base_shape, early_report, report_json
from kindling_platform.adapters.files import WEIGHTS, file_accepted, size_checked
from kindling_platform.adapters.guards import adapter_locked, adapter_uploading_get, rejected
from kindling_platform.adapters.hub_seal import token_forget
from kindling_platform.adapters.models import Adapter, AdapterFile
from kindling_platform.adapters.storage import file_settle, upload_discard, upload_folder, upload_write
from kindling_platform.audit.services import audit_record
from kindling_platform.common.errors import KindlingError

HEAD_BYTES = 1024 * 1024


def file_receive(
    *,
    adapter: Adapter,
    folder: Path,
    name: str,
    blocks: Iterable[bytes],
    actor: Actor,
    offset: int,
    total_bytes: int | None,
    part_bytes: int | None,
) -> AdapterFile:
    """Receive a file or a part for a caller who holds the upload's lock.

    Raises:
        KindlingError: those of `services.adapter_file_put`.
    """
    if not file_accepted(name):
        raise KindlingError("file_not_expected", f"{name} is not needed; leave it out.", param="name")
    file = _file(adapter, name, total_bytes)
    if total_bytes == 0:
        raise KindlingError("empty_file", f"{name} is empty.", param="name")
    if total_bytes is not None and total_bytes != file.size_bytes:
        text = f"{name} was announced with {file.size_bytes:,} bytes, not {total_bytes:,}."
        raise KindlingError("range_mismatch", text, 416, param="name")
    if offset > file.received_bytes:
        text = f"{name} has {file.received_bytes:,} bytes; go on from there."
        raise KindlingError("range_mismatch", text, 416, param="name")
    limit = file.size_bytes if part_bytes is None else min(file.size_bytes, offset + part_bytes)
    rest = iter(blocks)
    if offset == 0 and name == WEIGHTS:
        # The header says whether the base fits; the weights behind it may take an hour to arrive.
        offset += _store(file, folder, offset=0, blocks=_head(rest), limit_bytes=limit)
        _check_early(adapter, actor)
    _store(file, folder, offset=offset, blocks=rest, limit_bytes=limit)
    adapter_uploading_get(org=adapter.organisation, adapter_id=adapter.id)
    if file.received_bytes == 0:
        raise KindlingError("empty_file", f"No bytes of {name} came in.", param="name")
    _check_early(adapter, actor)
    return file


def _file(adapter: Adapter, name: str, total_bytes: int | None) -> AdapterFile:
    file = adapter.files.filter(name=name).first()
    if file is not None:
        return file
    if total_bytes is None:
        raise KindlingError("file_not_expected", f"{name} was not announced; send its size.", param="name")
    return AdapterFile.objects.create(adapter=adapter, name=name, size_bytes=size_checked(name, total_bytes))


def _store(file: AdapterFile, folder: Path, *, offset: int, blocks: Iterable[bytes], limit_bytes: int) -> int:
    path = folder / file.name
    try:
        return upload_write(path, offset=offset, blocks=blocks, limit_bytes=limit_bytes)
    finally:
        # What arrived before a connection broke is kept; a deleted upload has no file any more.
        if path.exists():
            file.received_bytes = file_settle(path)
            file.save(update_fields=["received_bytes"])


def _head(blocks: Iterator[bytes]) -> Iterator[bytes]:
    seen = 0
    while seen < HEAD_BYTES and (block := next(blocks, b"")):
        seen += len(block)
        yield block


def _check_early(adapter: Adapter, actor: Actor) -> None:
    files = list(adapter.files.all())
    report = early_report(
        upload_folder(adapter.id),
        {file.name: file.size_bytes for file in files},
        {file.name: file.received_bytes for file in files},
        base_shape(adapter.base),
    )
    failed = next((finding for finding in report.findings if finding.level == "fail"), None)
    if failed is None:
        return
    with transaction.atomic():
        row = adapter_locked(org=adapter.organisation, adapter_id=adapter.id)
        row.state, row.report = Adapter.State.REJECTED, report_json(report)
        sentence = f"{failed.message} {failed.fix}".strip()
        row.error_code, row.error, row.reason = failed.check, sentence[:500], sentence[:300]
        row.save()
        token_forget(row.id)
        audit_record(
            actor=actor,
            action="adapter.rejected",
            target=row.id,
            organisation_id=row.organisation_id,
            data={"code": failed.check},
        )
    upload_discard(adapter_id=adapter.id)
    raise rejected(row)
