"""Texts and chats are compared side by side, shared by a link, and gone on with as a copy."""

from collections.abc import Callable

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from kindling_browser import Visit

pytestmark = [pytest.mark.stack, pytest.mark.browser]


def test_a_comparison_in_the_raw_mode_is_shared_and_gone_on_with(visit: Callable[..., Visit]):
    me = visit()
    me.sign_up("sharer@example.com")
    page = me.page
    page.goto("/console/playground/?model=kindling/spark&mode=raw")
    page.get_by_role("button", name="Share", exact=True).click()
    expect(page.locator(".pg-log .note")).to_contain_text("Ask something first.")
    page.get_by_role("button", name="Clear").click()
    page.get_by_label("Longest answer").fill("8")
    page.get_by_role("button", name="Compare").click()
    page.get_by_role("button", name="Compare").click()
    expect(page.get_by_role("button", name="Compare")).to_be_hidden()
    page.get_by_role("button", name="Stop comparing the third").click()
    page.get_by_label("Prompt").fill("Once upon a time ")
    page.get_by_role("button", name="Complete").click()
    expect(page.locator("[data-booked]")).to_have_count(2)
    added = page.locator(".pg-made").all_text_contents()
    assert len(added) == 2 and all(added)
    page.get_by_role("button", name="Share", exact=True).click()
    page.get_by_label("Title").fill("Two beginnings")
    page.get_by_role("button", name="Make the link").click()
    page.wait_for_url("**/playground/shared/shr_*/")
    expect(page.get_by_role("heading", name="Two beginnings")).to_be_visible()
    expect(page.locator(".pg-made")).to_have_text(added)
    found = Axe().run(page, options={"runOnly": ["wcag2a", "wcag2aa", "wcag21aa", "wcag22aa"]})
    assert [
        one["id"] for one in found.response["violations"] if one["impact"] in ("serious", "critical")
    ] == []
    page.get_by_role("link", name="Go on with a copy").click()
    expect(page.locator(".pg-made")).to_have_text(added)
    expect(page.locator("[data-booked]")).to_have_count(2)
    assert page.get_by_label("Longest answer").input_value() == "8"
    page.locator("[data-lane=b]").get_by_role("button", name="Take as prompt").click()
    expect(page.get_by_label("Prompt")).to_have_value(f"Once upon a time {added[1]}")
