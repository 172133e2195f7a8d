"""The playground's raw mode in a browser: a completion streams behind its prompt, is stopped, goes on, and is code."""

import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Page, Route, expect

from kindling_browser import Visit

pytestmark = [pytest.mark.stack, pytest.mark.browser]
RUN = "**/playground/run/"
STOP_AT_FIRST_WORD = """
() => {
  const log = document.querySelector(".pg-log");
  const watcher = new MutationObserver(() => {
    if (!log.querySelector(".pg-made")?.textContent) return;
    watcher.disconnect();
    document.getElementById("pg-stop").click();
  });
  watcher.observe(log, { childList: true, subtree: true, characterData: true });
}
"""


def opened(visit: Callable[..., Visit], name: str) -> Visit:
    me = visit()
    me.sign_up(f"raw-{name}@example.com")
    me.page.goto("/console/playground/?model=kindling/spark")
    me.page.get_by_role("link", name="Raw", exact=True).click()
    me.page.wait_for_url("**/playground/?model=kindling/spark&mode=raw")
    return me


def complete(page: Page, text: str) -> dict[str, Any]:
    """Run a prompt; gives what is asked."""
    page.get_by_label("Prompt").fill(text)
    with page.expect_request(RUN) as asked:
        page.get_by_role("button", name="Complete").click()
    return dict(asked.value.post_data_json)


def forgive(me: Visit, *parts: str) -> None:
    """The browser itself notes refused and broken requests."""
    me.complaints = [text for text in me.complaints if not any(part in text for part in parts)]


def test_a_completion_streams_behind_its_prompt_and_is_booked(visit: Callable[..., Visit]):
    me = opened(visit, "writer")
    page = me.page
    page.get_by_label("Longest answer").fill("8")
    asked = complete(page, "Once upon a time ")
    assert (asked["prompt"], asked["max_tokens"]) == ("Once upon a time ", 8)
    assert "messages" not in asked
    expect(page.locator("[data-booked]")).to_have_count(1)
    expect(page.locator(".msg-stats")).to_contain_text("ms to first token")
    expect(page.locator("#status")).to_have_text(re.compile(r"^Completion .*, \d+ tokens$"))
    added = page.locator(".pg-made").text_content()
    expect(page.locator(".pg-given")).to_have_text("Once upon a time ", use_inner_text=False)
    assert added
    page.get_by_role("button", name="Take as prompt").click()
    expect(page.get_by_label("Prompt")).to_have_value(f"Once upon a time {added}")
    page.reload()
    expect(page.locator(".pg-made")).to_have_text(added)
    expect(page.get_by_label("Prompt")).to_have_value(f"Once upon a time {added}")
    page.get_by_role("button", name="Clear").click()
    expect(page.locator(".pg-made")).to_have_count(0)
    expect(page.get_by_label("Prompt")).to_have_value("")


def test_it_can_be_stopped_and_what_arrived_is_kept(visit: Callable[..., Visit]):
    me = opened(visit, "stopper")
    page = me.page
    page.get_by_label("Longest answer").fill("400")
    # So hot that it finds no end by itself.
    page.get_by_label("Temperature").fill("2")
    page.evaluate(STOP_AT_FIRST_WORD)
    with page.expect_event("requestfailed"):
        complete(page, "Once upon a time there was a fox that")
    expect(page.locator(".msg-stats[data-booked]")).to_contain_text("stopped by you")
    assert page.locator(".pg-made").text_content()
    expect(page.get_by_role("button", name="Complete")).to_be_enabled()


def test_a_refusal_leads_to_its_entry_and_to_what_helps(visit: Callable[..., Visit]):
    me = opened(visit, "refused")
    page = me.page
    doc_url = f"{page.url.split('/console')[0]}/errors/#insufficient_credit"

    def refuse(route: Route) -> None:
        error = {"message": "It is not enough.", "code": "insufficient_credit", "doc_url": doc_url}
        route.fulfill(status=402, json={"error": error})

    # For every page of the window: routes of a page have been seen to miss a request after a change of pages.
    me.context.route(RUN, refuse)
    complete(page, "Once")
    note = page.locator(".pg-log .note")
    expect(note).to_contain_text("Add credit")
    expect(note.get_by_role("link", name="insufficient_credit")).to_have_attribute("href", doc_url)
    expect(page.get_by_label("Prompt")).to_have_value("Once")
    page.get_by_role("link", name="Chat", exact=True).click()
    page.get_by_label("Message").fill("Hello!")
    page.get_by_role("button", name="Send").click()
    link = page.locator(".pg-log .note").get_by_role("link", name="insufficient_credit")
    expect(link).to_have_attribute("href", doc_url)
    with page.expect_popup() as entry:
        link.click()
    expect(entry.value.locator("#insufficient_credit")).to_be_visible()
    forgive(me, "playground/run")


def test_the_same_completion_is_shown_as_code(visit: Callable[..., Visit]):
    me = opened(visit, "coder")
    me.page.get_by_label("Prompt").fill("It's 2 + 2 = %MODEL%")
    me.page.get_by_role("button", name="View code").click()
    code = me.page.locator("#code-pg-curl")
    expect(code).to_contain_text("/v1/completions")
    expect(code).to_contain_text("It'\\''s 2 + 2 = %MODEL%")
    expect(code).to_contain_text('"max_tokens": 256,')
    body = re.search(r"-d '(.*)'$", (code.text_content() or "").replace("'\\''", "’"), re.DOTALL)
    assert body and json.loads(body[1])["prompt"] == "It’s 2 + 2 = %MODEL%"


def test_a_model_that_cannot_chat_is_opened_raw_and_the_chat_stays(visit: Callable[..., Visit]):
    me = visit()
    me.sign_up("raw-switcher@example.com")
    page = me.page
    page.goto("/console/playground/?model=kindling/spark")
    page.get_by_label("Message").fill("Half a thou")
    # As the page has it of a base model; here there is none.
    page.evaluate(
        "document.getElementById('id_model').add(Object.assign(new Option('kindling/base'), { id: 'base' }))"
    )
    page.evaluate("document.getElementById('base').dataset.raw = ''")
    page.get_by_label("Model", exact=True).select_option("kindling/base")
    page.wait_for_url("**/playground/?model=kindling%2Fbase")
    page.go_back()
    expect(page.get_by_label("Message")).to_have_value("Half a thou")
    expect(page.get_by_label("Model", exact=True)).to_have_value("kindling/spark")
