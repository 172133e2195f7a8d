"""A hundred thousand registered adapters: a look-up of the gateway reads few rows, and so does a page of the list."""

import json
from typing import Any

import pytest
from django.db import connection

from kindling_people import Customer, make_model
from kindling_platform.adapters.models import Adapter
from kindling_platform.adapters.selectors import adapter_list
from kindling_platform.gateway.database import MODEL_BY_NAME

pytestmark = pytest.mark.django_db

REGISTERED, NEIGHBOURS = 100_000, 50
MOST_READ = 200
"""Rows that a look-up may touch, whatever is registered."""


@pytest.fixture
def crowd(ada: Customer, bob: Customer) -> Customer:
    """Ada, all of whose adapters were registered without being uploaded, beside Bob with a few of the same names."""
    base = make_model(ada)
    columns = {field.column: None for field in Adapter._meta.concrete_fields}
    for customer, count in ((ada, REGISTERED), (bob, NEIGHBOURS)):
        example = Adapter.objects.create(organisation=customer.org, base=base, name="example", state="ready")
        with connection.cursor() as cursor:
            own = {
                "id": f"'adp_{customer.org.slug}' || lpad(n::text, 8, '0')",
                "name": "'tuned-' || n",
                "content_hash": "lpad(n::text, 64, '0')",
                "created_at": "created_at + n * interval '1 second'",
            }
            names = ", ".join(columns)
            values = ", ".join(own.get(name, name) for name in columns)
            cursor.execute(
                f"INSERT INTO adapters_adapter ({names}) SELECT {values} FROM adapters_adapter, "
                "generate_series(1, %s) AS n WHERE id = %s",
                [count, example.id],
            )
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE adapters_adapter")
    return ada


def _rows_read(plan: dict[str, Any]) -> float:
    """Rows that a plan's scans really touched, those that a filter threw away included."""
    below = sum(_rows_read(child) for child in plan.get("Plans", []))
    if "Scan" not in plan["Node Type"]:
        return below
    touched = plan["Actual Rows"] + plan.get("Rows Removed by Filter", 0)
    return below + touched * plan["Actual Loops"]


def _explain(query: str, parameters: tuple[Any, ...]) -> float:
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {query}", parameters)
        found = cursor.fetchone()[0]
    return _rows_read((json.loads(found) if isinstance(found, str) else found)[0]["Plan"])


def test_look_ups_and_lists_do_not_feel_how_many_there_are(crowd: Customer, bob: Customer):
    for slug, name in (
        (crowd.org.slug, "tuned-77777"),
        (crowd.org.slug, "nobody"),
        (bob.org.slug, "tuned-7"),
    ):
        assert _explain(MODEL_BY_NAME, (slug, name)) <= MOST_READ
    page, parameters = adapter_list(org=crowd.org)[:25].query.sql_with_params()
    assert _explain(page, parameters) <= MOST_READ
    assert [adapter.name for adapter in adapter_list(org=crowd.org)[:2]] == ["tuned-100000", "tuned-99999"]
    with connection.cursor() as cursor:
        cursor.execute(MODEL_BY_NAME, (crowd.org.slug, "tuned-77777"))
        (row,) = cursor.fetchall()
    assert f"{77777:064d}" in row
