"""Cancels batches, opens their files, and deletes those whose time is over, or all of an organisation's."""

from collections.abc import Iterator
from datetime import timedelta

from django.db import transaction
from django.db.models import Q

from kindling_platform.accounts.models import Organisation
from kindling_platform.audit.services import audit_record
from kindling_platform.batches.models import ACTIVE, Batch, BatchResult, StoredFile
from kindling_platform.batches.selectors import batch_get, file_get, file_text
from kindling_platform.common.actors import Actor
from kindling_platform.common.clock import now
from kindling_platform.common.errors import KindlingError
from kindling_platform.common.purging import purged
from kindling_platform.common.tenancy import HasId

CANCELLABLE = ("validating", "in_progress")
# How long an ended batch can be read, and when a file that is unfinished is taken for left behind: uploads are ended
# sooner.
KEPT = timedelta(days=30)
UNFINISHED = timedelta(hours=1)
# How long the files of a batch may take to be written.
UNWRITTEN = timedelta(days=1)
# A file of these has up to a hundred pieces of a megabyte.
PURGE_FILES, PURGE_ROWS, PURGE_BATCHES = 5, 500, 20


@transaction.atomic
def batch_cancel(*, org: Organisation, batch_id: str, actor: Actor) -> Batch:
    """Have a batch end with what it has; the gateway that works on it hears of it within seconds.

    Raises:
        KindlingError: `not_found`, `batch_over`.
    """
    moment = now()
    found = Batch.objects.for_org(org).filter(id=batch_id, status__in=CANCELLABLE)
    if found.update(status="cancelling", cancelling_at=moment, due_at=moment, waits_for=""):
        audit_record(actor=actor, action="batch.cancel", target=batch_id, organisation_id=org.id)
        return batch_get(org=org, batch_id=batch_id)
    batch = batch_get(org=org, batch_id=batch_id)
    if batch.status not in ("cancelling", "cancelled"):
        text = f"This batch is {batch.status} and cannot be cancelled any more."
        raise KindlingError("batch_over", text, 409)
    return batch


@transaction.atomic
def batch_file_open(*, org: Organisation, file_id: str, actor: Actor) -> tuple[StoredFile, Iterator[bytes]]:
    """A file and what is in it, which is what people have said; that somebody has looked is recorded.

    Raises:
        KindlingError: `not_found`; `file_sealed` while it is read.
    """
    file = file_get(org=org, file_id=file_id)
    audit_record(actor=actor, action="batch_file.open", target=file.id, organisation_id=org.id)
    return file, file_text(file=file)


def batches_purge() -> int:
    """Delete what is over, in bounded steps; gives the number of rows."""
    moment = now()
    old_files = StoredFile.objects.filter(expires_at__lte=moment)
    late = Q(purpose="batch", created_at__lte=moment - UNFINISHED) | Q(created_at__lte=moment - UNWRITTEN)
    cut_off = StoredFile.objects.filter(late, is_complete=False)
    over = Batch.objects.filter(id__in=list(_with_results())).exclude(status__in=ACTIVE)
    left = BatchResult.objects.filter(batch_id__in=list(over.values_list("id", flat=True)))
    old = Batch.objects.exclude(status__in=ACTIVE).filter(ended_at__lte=moment - KEPT)
    return (
        purged(old_files, limit=PURGE_FILES, batches=PURGE_BATCHES)
        + purged(cut_off, limit=PURGE_FILES, batches=PURGE_BATCHES)
        + purged(left, limit=PURGE_ROWS, batches=PURGE_BATCHES)
        + purged(old, limit=PURGE_ROWS, batches=PURGE_BATCHES)
    )


def _with_results() -> Iterator[str]:
    """The ids of batches with results: one look into an index for each, however many results it has.

    Those that are over are emptied when they end; only of one whose gateway died just then are some left.
    """
    last: str | None = ""
    while last is not None:
        rows = BatchResult.objects.filter(batch_id__gt=last).order_by("batch_id", "number")
        last = rows.values_list("batch_id", flat=True).first()
        if last is not None:
            yield last


@transaction.atomic
def batches_delete(*, org: HasId) -> None:
    """Delete every file and batch of an organisation. A gateway that works on one finds its lease gone and stops."""
    Batch.objects.for_org(org).delete()
    StoredFile.objects.for_org(org).delete()
