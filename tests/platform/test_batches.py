"""Files and batches in the tables: when they go, and whose they are."""

from datetime import timedelta

import pytest
from django.db import connection

from kindling_people import make_customer
from kindling_platform.batches import selectors
from kindling_platform.batches.models import ACTIVE, Batch, BatchResult, FilePart, StoredFile
from kindling_platform.batches.selectors import batch_get, file_get, file_map, file_text
from kindling_platform.batches.services import UNFINISHED, batch_cancel, batches_delete, batches_purge
from kindling_platform.common.clock import now
from kindling_platform.common.errors import KindlingError
from kindling_platform.gateway.request import BODY_TIMEOUT_S
from kindling_platform.gateway.surface.batches.store import COLUMNS
from kindling_platform.gateway.surface.files.store import PART_BYTES, UPLOAD_S
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


def test_what_is_left_of_ended_batches_goes_whichever_others_are_at_work():
    ada, moment = make_customer("ada"), now()
    batches = [
        stored_batch(ada.org, status=status, ended_at=None if status in ACTIVE else moment)
        for status in (*ACTIVE, "completed", "failed", "expired", "cancelled")
    ]
    for batch in batches:
        for number in range(3):
            BatchResult.objects.create(batch=batch, number=number, failed=False, sealed=b"x")
    assert batches_purge() == 4 * 3
    left = {(result.batch.status, result.number) for result in BatchResult.objects.all()}
    assert left == {(status, number) for status in ACTIVE for number in range(3)}
    assert batches_purge() == 0


def test_not_every_result_is_read_for_those_of_ended_batches_to_be_found(django_assert_max_num_queries):
    ada = make_customer("ada")
    batch = stored_batch(ada.org)
    rows = [BatchResult(batch=batch, number=number, failed=False, sealed=b"x") for number in range(3000)]
    BatchResult.objects.bulk_create(rows)
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE batches_batchresult")
    with django_assert_max_num_queries(10) as asked:
        assert batches_purge() == 0
    for query in asked:
        with connection.cursor() as cursor:
            cursor.execute(f"EXPLAIN {query['sql']}")
            plan = "\n".join(row[0] for row in cursor.fetchall())
        assert "Seq Scan on batches_batchresult" not in plan, plan


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
    writing = stored_file(ada.org, b"one", is_complete=False)
    with pytest.raises(KindlingError) as refused:
        batch_get(org=ada.org, batch_id="batch_\0")
    assert refused.value.code == "not_found"
    over = stored_file(ada.org, b"one", expires_at=now())
    for org, file_id in ((bob.org, file.id), (ada.org, writing.id), (ada.org, over.id), (ada.org, "file-\0")):
        with pytest.raises(KindlingError) as refused:
            file_get(org=org, file_id=file_id)
        assert refused.value.code == "not_found"
    assert file_map(org=ada.org, ids={file.id, writing.id, over.id}) == {file.id: file}
    FilePart.objects.filter(file=file, number=0).update(sealed=b"x" * 40)
    with pytest.raises(KindlingError) as refused:
        list(file_text(file=file))
    assert refused.value.code == "file_sealed"


def test_pieces_that_changed_places_do_not_open():
    ada = make_customer("ada")
    file = stored_file(ada.org, b"one", b"two")
    for old, new in ((0, 2), (1, 0), (2, 1)):
        FilePart.objects.filter(file=file, number=old).update(number=new)
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


def test_no_upload_is_swept_up_that_may_still_run():
    assert timedelta(seconds=UPLOAD_S + BODY_TIMEOUT_S) < UNFINISHED
