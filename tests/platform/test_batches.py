"""Files and batches in the tables: when they go, and whose they are."""

from datetime import timedelta

import pytest

from kindling_people import make_customer
from kindling_platform.batches import selectors
from kindling_platform.batches.models import Batch, BatchResult, FilePart, StoredFile
from kindling_platform.batches.selectors import file_get, file_map, file_text
from kindling_platform.batches.services import batch_cancel, batches_delete, batches_purge
from kindling_platform.common.clock import now
from kindling_platform.common.errors import KindlingError
from kindling_platform.gateway.surface.batches.store import COLUMNS
from kindling_platform.gateway.surface.files.store import PART_BYTES
from kindling_stored_batches import stored_batch, stored_file

pytestmark = pytest.mark.django_db


def test_what_is_over_goes_and_the_rest_stays():
    ada, moment = make_customer("ada"), now()
    kept = stored_file(ada.org, b"a")
    stored_file(ada.org, b"a", b"b", expires_at=moment)
    stored_file(ada.org, b"a", is_complete=False, created_at=moment - timedelta(hours=2))
    writing = stored_file(ada.org, b"a", is_complete=False)
    active = stored_batch(ada.org, created_at=moment - timedelta(days=60))
    ended = stored_batch(ada.org, status="completed", ended_at=moment - timedelta(days=29))
    stored_batch(ada.org, status="failed", ended_at=moment - timedelta(days=31))
    for batch in (active, ended):
        BatchResult.objects.create(batch=batch, number=0, failed=False, sealed=b"x")
    assert batches_purge() == 4
    assert set(StoredFile.objects.all()) == {kept, writing}
    assert FilePart.objects.count() == 2
    assert set(Batch.objects.all()) == {active, ended}
    assert [result.batch for result in BatchResult.objects.all()] == [active]


def test_all_of_an_organisations_go_and_nobody_elses():
    ada, bob = make_customer("ada"), make_customer("bob")
    for customer in (ada, bob):
        stored_file(customer.org, b"a")
        BatchResult.objects.create(batch=stored_batch(customer.org), number=0, failed=False, sealed=b"x")
    batches_delete(org=ada.org)
    for rows in (StoredFile.objects, Batch.objects):
        assert [row.organisation_id for row in rows.all()] == [bob.org.id]
    assert (FilePart.objects.count(), BatchResult.objects.count()) == (1, 1)


def test_files_are_their_owners_alone_and_open_with_the_secret_they_were_sealed_with():
    ada, bob = make_customer("ada"), make_customer("bob")
    file = stored_file(ada.org, b"one", b"two")
    assert b"".join(file_text(file=file_get(org=ada.org, file_id=file.id))) == b"onetwo"
    assert file_map(org=bob.org, ids={file.id}) == {}
    with pytest.raises(KindlingError) as refused:
        file_get(org=bob.org, file_id=file.id)
    assert refused.value.code == "not_found"
    FilePart.objects.filter(file=file, number=0).update(sealed=b"x" * 40)
    with pytest.raises(KindlingError) as refused:
        list(file_text(file=file))
    assert refused.value.code == "file_sealed"


def test_only_what_is_not_over_is_cancelled():
    ada, bob = make_customer("ada"), make_customer("bob")
    batch = stored_batch(ada.org, status="completed")
    for customer, code in ((ada, "batch_over"), (bob, "not_found")):
        with pytest.raises(KindlingError) as refused:
            batch_cancel(org=customer.org, batch_id=batch.id, actor=customer.actor)
        assert refused.value.code == code


def test_gateways_read_the_same_columns_and_write_the_same_parts():
    assert {field.attname for field in Batch._meta.concrete_fields} == set(COLUMNS)
    assert selectors.PART_BYTES == PART_BYTES
