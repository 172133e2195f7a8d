"""Begins a batch from the console: its file and its row, both or neither. Gateways find it when they look next."""

from collections.abc import Iterable
from datetime import timedelta

from django.conf import settings
from django.db import IntegrityError, transaction
from django.db.models import Sum

from kindling_platform.accounts.models import Organisation
from kindling_platform.audit.services import audit_record
from kindling_platform.batches.bounds import FILE_KEPT_S, MAX_ACTIVE, MAX_ORG_BYTES, PART_BYTES, WINDOW_S
from kindling_platform.batches.models import ACTIVE, Batch, FilePart, StoredFile
from kindling_platform.batches.seal import Seal
from kindling_platform.batches.selectors import batch_get
from kindling_platform.common.actors import Actor
from kindling_platform.common.clock import now
from kindling_platform.common.errors import KindlingError
from kindling_platform.common.ids import uuid7

BATCH, FILE = "batch_", "file-"


def batch_id_make() -> str:
    """An id for a batch that is yet to begin: with the same one it begins once, however often it is asked for."""
    return f"{BATCH}{uuid7().hex}"


def batch_begin(
    *,
    org: Organisation,
    batch_id: str,
    key_id: str,
    key_digest: bytes,
    endpoint: str,
    filename: str,
    pieces: Iterable[bytes],
    actor: Actor,
) -> tuple[Batch, bool]:
    """Store what is in `pieces` as a file, and have a batch work through it in the name of a key.

    Gives the batch, and whether it is new: one that has begun already is given as it is. Whether its lines are sound is
    looked at by whoever works on it, as for every batch.

    Raises:
        KindlingError: `account_suspended`, `too_many_batches`, `files_full`.
    """
    begun: Batch | None = Batch.objects.for_org(org).filter(id=batch_id).first()
    if begun is not None:
        return begun, False
    try:
        with transaction.atomic():
            _check_count(org)
            file = _file_make(org, batch_id, key_id, filename, pieces)
            _check_bounds(org)
            return _batch_make(org, batch_id, (key_id, key_digest), endpoint, file, actor=actor), True
    except IntegrityError:
        # Asked for twice at the same time.
        return batch_get(org=org, batch_id=batch_id), False


def _check_count(org: Organisation) -> None:
    if Batch.objects.for_org(org).filter(status__in=ACTIVE).count() >= MAX_ACTIVE:
        text = (
            f"{MAX_ACTIVE} batches of your organisation are not over. Wait for some of them, or cancel them."
        )
        raise KindlingError("too_many_batches", text, 429)


def _file_make(
    org: Organisation, batch_id: str, key_id: str, filename: str, pieces: Iterable[bytes]
) -> StoredFile:
    moment = now()
    file: StoredFile = StoredFile.objects.create(
        id=FILE + batch_id.removeprefix(BATCH),
        organisation_id=org.id,
        key_id=key_id,
        filename=filename,
        purpose="batch",
        size_bytes=0,
        is_complete=True,
        created_at=moment,
        expires_at=moment + timedelta(seconds=FILE_KEPT_S),
    )
    file.size_bytes = _store(org, file, pieces)
    file.save(update_fields=["size_bytes"])
    return file


def _check_bounds(org: Organisation) -> None:
    """What holds when the batch is there, of two at once too; the organisation is locked no longer than for that."""
    row = Organisation.objects.select_for_update(no_key=True).get(id=org.id)
    if row.suspended_at is not None:
        text = "The operator of this platform has suspended your organisation. Ask them why and what ends it."
        raise KindlingError("account_suspended", text, 412)
    _check_count(org)
    if StoredFile.objects.for_org(org).aggregate(held=Sum("size_bytes"))["held"] > MAX_ORG_BYTES:
        most = MAX_ORG_BYTES // (1024 * 1024 * 1024)
        text = f"The files of your organisation would have more than {most} GiB. Delete some of them first."
        raise KindlingError("files_full", text, 413)


def _batch_make(
    org: Organisation, batch_id: str, key: tuple[str, bytes], endpoint: str, file: StoredFile, *, actor: Actor
) -> Batch:
    moment, (key_id, key_digest) = now(), key
    figures = (
        "total", "completed", "failed", "prompt_tokens", "cached_tokens", "completion_tokens", "reasoning_tokens",
        "stored_bytes",
    )  # fmt: skip
    batch: Batch = Batch.objects.create(
        id=batch_id,
        organisation_id=org.id,
        key_id=key_id,
        key_digest=key_digest,
        endpoint=endpoint,
        input_file_id=file.id,
        output_s=FILE_KEPT_S,
        status="validating",
        due_at=moment,
        created_at=moment,
        expires_at=moment + timedelta(seconds=WINDOW_S),
        **dict.fromkeys(figures, 0),
    )
    audit_record(
        actor=actor, action="batch.begin", target=batch.id, organisation_id=org.id, after={"key": key_id}
    )
    return batch


def _store(org: Organisation, file: StoredFile, pieces: Iterable[bytes]) -> int:
    """Write the parts of a file, each of them full but for the last one; gives their bytes."""
    seal, held, number, size = Seal(settings.KINDLING_ENV.secret_key), bytearray(), 0, 0

    def put(part: bytes) -> None:
        sealed = seal.close(part, org_id=org.id, owner=file.id, number=number)
        FilePart.objects.create(file=file, number=number, sealed=sealed)

    for piece in pieces:
        held += piece
        size += len(piece)
        while len(held) >= PART_BYTES:
            put(bytes(held[:PART_BYTES]))
            del held[:PART_BYTES]
            number += 1
    if held:
        put(bytes(held))
    return size
