"""Reads an organisation's batches, and what is in their files."""

from collections.abc import Iterator

from django.conf import settings

from kindling_platform.batches.bounds import PART_BYTES
from kindling_platform.batches.models import Batch, FilePart, StoredFile
from kindling_platform.batches.seal import Seal
from kindling_platform.common.clock import now
from kindling_platform.common.errors import KindlingError, not_found
from kindling_platform.common.models import OrgQuerySet
from kindling_platform.common.org_seal import SealBrokenError, SealedTooLongError
from kindling_platform.common.tenancy import HasId


def batch_list(*, org: HasId) -> OrgQuerySet:
    """Every batch of an organisation."""
    return Batch.objects.for_org(org)


def batch_get(*, org: HasId, batch_id: str) -> Batch:
    """One batch. Errors: `not_found`, also for those of others."""
    found: Batch | None = Batch.objects.for_org(org).filter(id=batch_id).first() if _is_id(batch_id) else None
    if found is None:
        raise not_found("batch")
    return found


def file_get(*, org: HasId, file_id: str) -> StoredFile:
    """A file that can be read. Errors: `not_found`, also for those of others."""
    rows = StoredFile.objects.for_org(org).filter(is_complete=True, expires_at__gt=now())
    found: StoredFile | None = rows.filter(id=file_id).first() if _is_id(file_id) else None
    if found is None:
        raise not_found("file")
    return found


def file_map(*, org: HasId, ids: set[str]) -> dict[str, StoredFile]:
    """Those of these files that can be read, by id."""
    rows = StoredFile.objects.for_org(org).filter(is_complete=True, expires_at__gt=now(), id__in=ids)
    return {file.id: file for file in rows}


def file_text(*, file: StoredFile) -> Iterator[bytes]:
    """What is in a file, piece by piece.

    Raises:
        KindlingError: `file_sealed` where the installation's secret is another than when it was written.
    """
    seal = Seal(settings.KINDLING_ENV.secret_key)
    numbers = FilePart.objects.filter(file=file).order_by("number").values_list("number", flat=True)
    for number in list(numbers):
        part = FilePart.objects.filter(file=file, number=number).first()
        if part is None:
            return  # deleted while it is read
        try:
            yield seal.open(
                bytes(part.sealed),
                org_id=file.organisation_id,
                owner=file.id,
                number=number,
                most_bytes=PART_BYTES,
            )
        except (SealBrokenError, SealedTooLongError) as error:
            text = "This file was written under another secret of the installation, and cannot be opened any more."
            raise KindlingError("file_sealed", text, 409) from error


def _is_id(text: str) -> bool:
    """Whether Postgres can be asked for it; paths of pages may hold any character."""
    return text.isprintable()
