"""Budgets in the browser: set by the keyboard alone, in place, kept by the gateway; and without scripts."""

import os
import re
import secrets
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Page, expect

from kindling_browser import Visit
from kindling_tenant import poll

pytestmark = [pytest.mark.stack, pytest.mark.browser]


def make_key(me: Visit) -> str:
    made = me.context.request.post(
        f"{me.url}/api/v1/keys",
        data={"name": "laptop", "scopes": ["inference"]},
        headers={"X-CSRFToken": next(c["value"] for c in me.context.cookies() if c["name"] == "csrftoken")},
    )
    return str(made.json()["key"])


def ask(me: Visit, key: str) -> httpx.Response:
    body = {
        "model": "kindling/spark",
        "messages": [{"role": "user", "content": "What is 12 plus 7?"}],
        "max_tokens": 40,
    }
    headers = {"Authorization": f"Bearer {key}"}
    return httpx.post(f"{me.url}/v1/chat/completions", json=body, headers=headers, timeout=60)


def picture(page: Page, name: str) -> None:
    """Kept for people when the environment names a folder."""
    if folder := os.environ.get("KINDLING_SCREENSHOTS"):
        page.screenshot(path=Path(folder) / f"{name}.png", full_page=True)


def test_a_key_gets_a_budget_by_the_keyboard_and_the_gateway_keeps_it(visit: Callable[..., Visit]):
    me = visit(reduced_motion="reduce")
    me.sign_up(f"frugal-{secrets.token_hex(3)}@example.com")
    key = make_key(me)
    assert ask(me, key).status_code == 200
    page = me.page
    page.goto("/console/limits/")
    change = page.get_by_role("link", name="Change the limits of laptop")
    change.focus()
    page.keyboard.press("Enter")
    day = page.get_by_role("form", name="Limits of laptop").get_by_label("Budget for a day")
    expect(day).to_be_focused()
    page.keyboard.type("a lot")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_have_text("Give an amount such as 25 or 0.50.")
    expect(day).to_be_focused()
    picture(page, "limits-refused")
    day.fill("0.000001")
    page.keyboard.press("Enter")
    row = page.get_by_role("row").filter(has=change)
    expect(row).to_contain_text("Saved")
    expect(change).to_be_focused()
    expect(page.locator("#status")).to_have_text("The limits of laptop hold within a second.")
    # The browser itself notes the form that was refused.
    me.complaints = [text for text in me.complaints if "422" not in text]

    refused = poll(lambda: ask(me, key), lambda reply: reply.status_code == 402, every=0.5)
    assert refused.json()["error"]["code"] == "budget_exceeded"
    page.reload()
    expect(row).to_contain_text("Used up")
    own = page.locator("#limits-own")
    own.get_by_label("Budget for a month").fill("25")
    own.get_by_role("button", name="Save budgets").click()
    expect(own).to_contain_text("of $25.00")
    picture(page, "limits")
    page.emulate_media(color_scheme="dark")
    page.set_viewport_size({"width": 360, "height": 760})
    picture(page, "limits-narrow")
    assert me.sideways_scroll_px() == 0
    page.set_viewport_size({"width": 1320, "height": 900})
    page.emulate_media(color_scheme="light")
    page.goto("/console/team/")
    expect(page.get_by_role("row").filter(has_text=me.email)).to_contain_text("Owner")
    picture(page, "team")


def test_limits_are_plain_forms_without_scripts(visit: Callable[..., Visit]):
    me = visit(java_script_enabled=False)
    me.sign_up(f"plain-{secrets.token_hex(3)}@example.com")
    page = me.page
    page.goto("/console/team/")
    page.get_by_role("link", name=f"Limits of {me.email}").click()
    page.get_by_label("Requests a minute").fill("600")
    picture(page, "limits-plain")
    page.get_by_role("button", name="Save limits").click()
    page.wait_for_url("**/console/limits/")
    expect(page.get_by_role("row").filter(has_text=me.email)).to_contain_text("600 requests a minute")
    page.get_by_label("Budget in all").fill("nothing")
    page.get_by_role("button", name="Save budgets").click()
    expect(page.get_by_role("alert")).to_have_text(re.compile("Give an amount"))
    me.complaints = [text for text in me.complaints if "422" not in text]
