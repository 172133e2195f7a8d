"""Migrations of usage: the index of batch work is made beside those who write, and a start that dies meanwhile stands
in no later one's way; whoever goes back keeps what was deleted.
"""

import pytest
from django.db import connection
from django.db.migrations.executor import MigrationExecutor

from kindling_platform.usage.models import RetiredUsage

pytestmark = pytest.mark.django_db(transaction=True)
BEFORE = [("usage", "0010_batch_work")]
NAME = "usage_event_of_batches"
VALID = "SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass(%s) AND indpred IS NOT NULL"


def test_what_a_dead_start_has_left_is_made_anew():
    try:
        MigrationExecutor(connection).migrate(BEFORE)
        with connection.cursor() as cursor:
            cursor.execute(f"CREATE INDEX {NAME} ON usage_usageevent (finished_at)")
    finally:
        executor = MigrationExecutor(connection)
        executor.migrate(executor.loader.graph.leaf_nodes("usage"))
    with connection.cursor() as cursor:
        cursor.execute(VALID, [NAME])
        assert cursor.fetchall() == [(True,)]


def test_on_the_way_back_the_parts_of_a_day_are_one_again():
    for day, model_id, batch, count in (
        (1, "", False, 1),
        (1, "a", False, 2),
        (1, "a", True, 4),
        (2, "a", True, 8),
    ):
        RetiredUsage.objects.create(
            organisation_id="org_1", day=f"2026-01-0{day}", model_id=model_id, batch=batch, requests=count,
            cost_picousd=10 * count,
        )  # fmt: skip
    try:
        MigrationExecutor(connection).migrate([("usage", "0011_batch_work_by_time")])
    finally:
        executor = MigrationExecutor(connection)
        executor.migrate(executor.loader.graph.leaf_nodes("usage"))
    rows = RetiredUsage.objects.order_by("day").values_list("model_id", "batch", "requests", "cost_picousd")
    assert list(rows) == [("", False, 7, 70), ("", False, 8, 80)]
