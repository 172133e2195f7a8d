"""Prompts and answers, on a whole stack: not kept, asked for, kept and read, switched off and gone."""

import os
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Page, expect

from kindling_browser import Visit

pytestmark = [pytest.mark.stack, pytest.mark.browser]
WORDS = "Tell me a story about a fox that nobody else may hear."
NARROW = {"width": 360, "height": 760}
LOG, SETTINGS = "/console/usage/requests/log/", "/console/settings/"
# Names a folder for pictures of the pages.
KEPT = os.environ.get("KINDLING_SCREENSHOTS")


def ask(me: Visit, key: str) -> str:
    """Ask once and give the answer's text."""
    said = [{"role": "user", "content": WORDS}]
    body = {"model": "kindling/spark", "messages": said, "max_tokens": 24, "temperature": 0}
    headers = {"Authorization": f"Bearer {key}"}
    reply = httpx.post(f"{me.url}/v1/chat/completions", json=body, headers=headers, timeout=60)
    assert reply.status_code == 200, reply.text
    return str(reply.json()["choices"][0]["message"]["content"])


def choose(page: Page, days: str) -> None:
    page.goto(SETTINGS)
    page.get_by_label("How long they are kept").select_option(days)
    if days == "0":
        page.get_by_label("delete everything").check()
    page.get_by_role("button", name="Save").click()
    page.wait_for_url(f"**{SETTINGS}")


def test_kept_only_while_it_is_asked_for(visit: Callable[..., Visit]):
    me = visit()
    me.sign_up("mnemosyne@example.com")
    page = me.page
    made = me.context.request.post(
        f"{me.url}/api/v1/keys",
        data={"name": "laptop", "scopes": ["inference"]},
        headers={"X-CSRFToken": next(c["value"] for c in me.context.cookies() if c["name"] == "csrftoken")},
    )
    key = made.json()["key"]
    ask(me, key)
    page.goto(LOG)
    expect(page.get_by_text("Nothing is kept")).to_be_visible()

    choose(page, "7")
    expect(page.get_by_text("kept for 7 days", exact=True)).to_be_visible()
    answer = ""
    for _ in range(40):  # gateways hear of it within seconds
        answer = ask(me, key)
        page.goto(LOG)
        if page.locator("tbody tr").count():
            break
        page.wait_for_timeout(250)
    page.locator("tbody tr a").first.click()
    expect(page.get_by_text(WORDS).first).to_be_visible()
    assert " ".join(answer.split())[:20] in " ".join(page.locator("main").inner_text().split())
    picture(page, "logged-request")
    page.goto(SETTINGS)
    picture(page, "settings")
    page.goto(LOG)
    picture(page, "request-log")

    choose(page, "0")
    page.goto(LOG)
    expect(page.get_by_text("Nothing is kept")).to_be_visible()
    assert page.locator("tbody tr").count() == 0


def picture(page: Page, name: str) -> None:
    """Nothing is wider than a narrow screen; kept in light and dark where a folder is named."""
    before = page.viewport_size
    for theme in ("light", "dark") if KEPT else ("dark",):
        page.emulate_media(color_scheme=theme, reduced_motion="reduce")
        for suffix, size in (("", before), ("-narrow", NARROW)):
            page.set_viewport_size(size)
            wide = page.evaluate(
                "document.documentElement.scrollWidth - document.documentElement.clientWidth"
            )
            assert wide <= 0, (name, theme, suffix)
            if KEPT:
                page.screenshot(path=Path(KEPT) / f"{name}-{theme}{suffix}.png", full_page=True)
        page.set_viewport_size(before)
