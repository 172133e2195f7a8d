"""Fifty callers at once, twenty of whom hang up: every token is billed, once, and no other."""

import pytest

from kindling_books import assert_books_agree, read_books
from kindling_load import mixed_burst
from kindling_stack import Stack
from kindling_tenant import poll

pytestmark = pytest.mark.stack


async def test_cut_and_whole_answers_are_billed_as_generated(stack: Stack):
    tenant = stack.sign_up("cutter")
    org_id = tenant.api("GET", "/api/v1/me")["organisation"]["id"]
    before = tenant.balance_picousd()

    answers = await mixed_burst(stack.url, tenant.key, requests=50, cut=20, seed=11)

    assert all(answer.status == 200 for answer in answers)
    books = poll(lambda: read_books(stack, org_id), lambda seen: len(seen.events) == 50)
    assert_books_agree(books)
    assert sum(record.finish == "cancelled" for record in books.logged.values()) > 0
    for answer in answers:
        if answer.complete:
            assert books.events[answer.request_id]["completion_tokens"] == answer.completion_tokens
    assert before - tenant.balance_picousd() == books.cost_picousd > 0
