"""The catalog in a browser: what is chosen stands in the address, and comes back with it."""

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import expect

from kindling_browser import Visit

pytestmark = [pytest.mark.stack, pytest.mark.browser]


def test_choices_stand_in_the_address_and_can_be_gone_back_from(visit: Callable[..., Visit]):
    me = visit()
    me.sign_up("filterer@example.com")
    page = me.page
    page.goto("/console/catalog/")
    cards = page.locator(".model-card")
    expect(cards).to_have_count(1)
    expect(cards.get_by_text("Warm", exact=True)).to_be_visible()
    page.get_by_label("Task").select_option("chat")
    page.wait_for_url(re.compile(r"\?task=chat$"))
    expect(cards).to_have_count(1)
    page.get_by_label("Search models").press_sequentially("spark", delay=20)
    page.wait_for_url(re.compile(r"\?q=spark&task=chat$"))
    page.get_by_label("Context").select_option("131072")
    page.wait_for_url(re.compile(r"\?q=spark&task=chat&context=131072$"))
    expect(page.get_by_text("No model matches")).to_be_visible()
    expect(page.locator("#status")).to_have_text("0 of 1 models")

    page.reload()
    expect(page.get_by_label("Context")).to_have_value("131072")
    expect(page.get_by_text("No model matches")).to_be_visible()
    page.go_back()
    page.wait_for_url(re.compile(r"\?q=spark&task=chat$"))
    expect(cards).to_have_count(1)
    expect(page.get_by_label("Context")).to_have_value("")
    expect(page.get_by_label("Search models")).to_have_value("spark")
    page.go_forward()
    page.get_by_role("link", name="Drop the context of 131,072 tokens").click()
    expect(cards).to_have_count(1)
    expect(page.get_by_label("Context")).to_have_value("")
    expect(page.get_by_label("Task")).to_have_value("chat")
    assert "context" not in page.url


def test_filters_work_without_scripts(visit: Callable[..., Visit]):
    me = visit(java_script_enabled=False)
    me.sign_up_on_the_page("plain-chooser@example.com")
    page = me.page
    page.goto("/console/catalog/")
    page.get_by_label("Size in parameters").select_option("40-")
    page.get_by_label("Search models").fill("spark")
    page.get_by_role("button", name="Search", exact=True).click()
    expect(page.get_by_text("No model matches")).to_be_visible()
    page.get_by_role("link", name="Drop the size (40B and more)").click()
    expect(page.locator(".model-card")).to_have_count(1)
    expect(page.get_by_label("Search models")).to_have_value("spark")
