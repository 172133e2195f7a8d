"""The index of batch work is made beside those who write; a start that dies meanwhile stands in no later one's way."""

import pytest
from django.db import connection
from django.db.migrations.executor import MigrationExecutor

pytestmark = pytest.mark.django_db(transaction=True)
BEFORE, AFTER = [("usage", "0010_batch_work")], [("usage", "0011_batch_work_by_time")]
NAME = "usage_event_of_batches"
VALID = "SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass(%s) AND indpred IS NOT NULL"


def test_what_a_dead_start_has_left_is_made_anew():
    try:
        MigrationExecutor(connection).migrate(BEFORE)
        with connection.cursor() as cursor:
            cursor.execute(f"CREATE INDEX {NAME} ON usage_usageevent (finished_at)")
    finally:
        MigrationExecutor(connection).migrate(AFTER)
    with connection.cursor() as cursor:
        cursor.execute(VALID, [NAME])
        assert cursor.fetchall() == [(True,)]
