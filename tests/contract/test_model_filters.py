"""The filters of models have one list of names: in code, on the page of the API, in its schema, in the console."""

from dataclasses import fields

import pytest

from kindling_api_operations import api_operations
from kindling_api_page import names_in, table
from kindling_console.catalog_view import FILTER_WORDS
from kindling_platform.catalog.offers import ORDERS, TASKS
from kindling_platform.catalog.wishes import Wish

PARAMETERS = [field.name for field in fields(Wish)]


def test_the_page_names_each_of_them_and_its_values():
    rows = {names_in(row[0])[0]: row[1] for row in table("Choosing a model")}
    assert list(rows) == PARAMETERS
    assert names_in(rows["task"]) == list(TASKS)
    assert names_in(rows["sort"]) == list(ORDERS)


def test_the_schema_has_the_same():
    described = {one.name: one.definition for one in api_operations()["GET /api/v1/models"].query}
    assert sorted(described) == sorted(PARAMETERS)
    assert described["task"]["schema"]["enum"] == sorted(TASKS)
    assert described["sort"]["schema"]["enum"] == sorted(ORDERS)
    assert all(one["description"] for one in described.values())


@pytest.mark.parametrize("name", PARAMETERS)
def test_the_console_has_a_word_for_each(name: str):
    assert FILTER_WORDS[name]
