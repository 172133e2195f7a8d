"""The playground's chat when something comes between: it is cleared, an answer breaks off, money runs out, a reload."""

import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Locator, Page, Route, expect

from kindling_browser import PASSWORD, Visit

pytestmark = [pytest.mark.stack, pytest.mark.browser]
RUN = "**/playground/run/"
CLEAR_AT_FIRST_WORD = """
() => {
  const log = document.querySelector(".pg-log");
  const watcher = new MutationObserver(() => {
    if (!log.querySelector(".is-model .msg-text")?.textContent) return;
    watcher.disconnect();
    document.getElementById("pg-clear").click();
  });
  watcher.observe(log, { childList: true, subtree: true, characterData: true });
}
"""


def opened(visit: Callable[..., Visit], name: str) -> Visit:
    me = visit()
    me.sign_up(f"talk-{name}@example.com")
    me.page.goto("/console/playground/?model=kindling/spark")
    return me


def send(page: Page, text: str) -> list[dict[str, str]]:
    """Send a message; gives the messages that are asked."""
    page.get_by_label("Message").fill(text)
    with page.expect_request(RUN) as asked:
        page.get_by_role("button", name="Send").click()
    return list(asked.value.post_data_json["messages"])


def stream(*events: dict[str, Any]) -> str:
    return "".join(f"data: {json.dumps(event)}\n\n" for event in events)


def piece(text: str = "", finish: str | None = None) -> dict[str, Any]:
    return {"choices": [{"delta": {"content": text} if text else {}, "finish_reason": finish}]}


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def answered(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


WHOLE = stream(piece("Four."), piece(finish="stop"))
LIMITED = stream(piece("Fo"), piece(finish="length"))
BROKEN = stream(piece("Fo"), {"error": {"message": "The engine failed.", "code": "upstream_failed"}})
# The stream ends, and no word says that it has.
CUT = stream(piece("Fo"))


def refusal(code: str, status: int) -> dict[str, Any]:
    return {"status": status, "json": {"error": {"message": f"It is {code}.", "code": code}}}


def replies(page: Page, *each: dict[str, Any]) -> None:
    """What the server says to one request after the other; nothing is said when the line is dead."""
    left = list(each)

    def answer(route: Route) -> None:
        reply = left.pop(0)
        route.fulfill(**reply) if reply else route.abort()

    page.route(RUN, answer)


def said(body: str, **more: Any) -> dict[str, Any]:
    return {"content_type": "text/event-stream", "body": body} | more


def forgive(me: Visit, *parts: str) -> None:
    """The browser itself notes refused and broken requests."""
    me.complaints = [text for text in me.complaints if not any(part in text for part in parts)]


def test_a_cleared_answer_is_in_no_later_request(visit: Callable[..., Visit]):
    me = opened(visit, "clearer")
    page = me.page
    page.get_by_label("Longest answer").fill("400")
    page.evaluate(CLEAR_AT_FIRST_WORD)
    with page.expect_event("requestfailed"):
        assert send(page, "Tell me a story about a fox.") == [user("Tell me a story about a fox.")]
    expect(page.get_by_role("button", name="Send")).to_be_enabled()
    expect(page.locator(".msg")).to_have_count(0)
    expect(page.get_by_role("button", name="Try again")).to_be_hidden()
    page.get_by_label("Longest answer").fill("8")
    assert send(page, "Hello!") == [user("Hello!")]
    expect(page.locator("[data-booked]")).to_have_count(1)


@pytest.mark.parametrize("reply", [said(BROKEN), refusal("insufficient_credit", 402), {}])
def test_a_question_without_an_answer_is_asked_once(visit: Callable[..., Visit], reply: dict[str, Any]):
    me = opened(visit, f"asker{len(str(reply))}")
    page = me.page
    replies(page, said(WHOLE), reply, reply, said(WHOLE))
    send(page, "One?")
    expect(page.locator("#status")).to_have_text("Answer complete")
    before = [user("One?"), answered("Four.")]
    for _ in range(2):
        assert send(page, "Two?") == [*before, user("Two?")]
        expect(page.get_by_label("Message")).to_have_value("Two?")
        expect(page.locator(".msg.is-user")).to_have_text(["You\nOne?"], use_inner_text=True)
        expect(page.locator(".pg-log .note")).to_have_count(1)
        expect(page.locator("#status")).to_have_text(
            "The answer broke off" if "body" in reply else "No answer"
        )
    assert send(page, "Two?") == [*before, user("Two?")]
    expect(page.locator("#status")).to_have_text("Answer complete")
    expect(page.locator(".msg")).to_have_count(4)
    expect(page.locator(".pg-log .note")).to_have_count(0)
    forgive(me, "playground/run", "playground/receipt")


def test_what_arrived_of_a_cut_answer_is_kept_and_goes_on(visit: Callable[..., Visit]):
    me = opened(visit, "cutter")
    page = me.page
    replies(page, {}, said(CUT), said(WHOLE))
    send(page, "One?")
    note = page.locator(".pg-log .note")
    expect(note).to_contain_text("No answer arrived.")
    expect(page.get_by_label("Message")).to_have_value("One?")
    assert send(page, "One?") == [user("One?")]
    expect(note).to_contain_text("What arrived is kept above.")
    expect(page.locator("#status")).to_have_text("The answer was cut off")
    assert send(page, "Two?") == [user("One?"), answered("Fo"), user("Two?")]
    forgive(me, "playground/run")


def test_a_refusal_says_what_to_do_and_where(visit: Callable[..., Visit]):
    me = opened(visit, "refused")
    page = me.page
    fixes = [
        ("insufficient_credit", 402, "Add credit", "/console/billing/"),
        ("budget_exceeded", 402, "can raise it", "/console/limits/"),
        ("context_length_exceeded", 400, "Clear the chat or shorten it.", ""),
        ("organisation_left", 409, "Reload the page", ""),
        ("signed_out", 401, "Sign in in a new tab", "/accounts/login/?next=/console/playground/"),
    ]
    replies(page, *(refusal(code, status) for code, status, _, _ in fixes))
    for code, _, text, url in fixes:
        send(page, "Hello!")
        note = page.locator(".pg-log .note")
        expect(note).to_have_count(1)
        expect(note).to_contain_text(code)
        expect(note).to_contain_text(text)
        link: Locator = note.get_by_role("link")
        if url:
            expect(link).to_have_attribute("href", re.compile(rf"^{re.escape(url)}"))
            expect(link).to_have_attribute("target", "_blank")
        else:
            expect(link).to_have_count(0)
        expect(note.get_by_role("button")).to_have_count(0)
    forgive(me, "playground/run")


def test_who_was_signed_out_signs_in_beside_it_and_goes_on(visit: Callable[..., Visit]):
    me = opened(visit, "outsider")
    page = me.page
    me.context.clear_cookies(name="kindling_session")
    send(page, "Hello!")
    with page.expect_popup() as opened_tab:
        page.locator(".pg-log .note").get_by_role("link", name="Sign in").click()
    tab = opened_tab.value
    tab.get_by_label("Email").fill(me.email)
    tab.get_by_label("Password").fill(PASSWORD)
    tab.get_by_role("button", name="Sign in", exact=True).click()
    tab.wait_for_url("**/console/playground/?model=kindling/spark")
    tab.close()
    expect(page.get_by_label("Message")).to_have_value("Hello!")
    page.get_by_role("button", name="Send").click()
    expect(page.locator("[data-booked]")).to_have_count(1)
    forgive(me, "401")


@pytest.mark.parametrize("finish", ["length", "grant_refused"])
def test_a_cut_for_money_is_not_called_a_limit(visit: Callable[..., Visit], finish: str):
    me = opened(visit, f"spender-{finish[:5]}")
    page = me.page
    replies(page, said(LIMITED, headers={"X-Kindling-Request": "some-request"}))
    booked = {
        "cost": "$0.01", "cost_exact_usd": "0.01", "prompt_tokens": 3, "cached_tokens": 0, "completion_tokens": 1,
        "first_token_ms": 5, "tokens_per_s": None, "finish": finish, "url": "/", "balance": "$0",
    }  # fmt: skip
    page.route("**/playground/receipt/**", lambda route: route.fulfill(json=booked))
    send(page, "Hello!")
    stats = page.locator(".msg-stats[data-booked]")
    expect(stats).to_contain_text("$0.01")
    is_money = finish == "grant_refused"
    expect(stats).to_contain_text("cut: credit or a budget ran out" if is_money else "ended at the limit")
    expect(stats.get_by_text("ended at the limit")).to_have_count(0 if is_money else 1)
    expect(stats.get_by_role("link", name="Billing")).to_have_count(int(is_money))
    expect(page.locator("#status")).to_have_text("Answer ended at the limit")


def test_the_chat_is_there_again_after_a_reload(visit: Callable[..., Visit]):
    me = opened(visit, "reloader")
    page = me.page
    replies(page, said(WHOLE), said(WHOLE))
    send(page, "One?")
    expect(page.get_by_role("button", name="Edit")).to_be_visible()
    page.get_by_label("Message").fill("Half a thou")
    page.reload()
    expect(page.locator(".msg .msg-text")).to_have_text(["One?", "Four."])
    expect(page.get_by_label("Message")).to_have_value("Half a thou")
    assert send(page, "Two?") == [user("One?"), answered("Four."), user("Two?")]
    # Another address begins anew, and so does a chat that was cleared.
    page.goto("/console/playground/")
    expect(page.locator(".msg")).to_have_count(0)
    page.get_by_role("button", name="Clear").click()
    page.reload()
    expect(page.locator(".msg")).to_have_count(0)


def test_a_message_is_not_lost_with_the_words_about_refusals(visit: Callable[..., Visit]):
    me = visit()
    me.sign_up("talk-wordless@example.com")
    page = me.page
    page.route("**/playground_refusals*.js*", lambda route: route.abort())
    page.goto("/console/playground/?model=kindling/spark")
    replies(page, refusal("overloaded", 429), said(WHOLE))
    send(page, "One?")
    expect(page.locator(".pg-log .note")).to_have_text("No answer. It is overloaded.")
    expect(page.get_by_label("Message")).to_have_value("One?")
    send(page, "One?")
    expect(page.locator(".msg .msg-text")).to_have_text(["One?", "Four."])
    forgive(me, "playground/run", "playground_refusals")


@pytest.mark.parametrize("spoilt", ["{", "{}", "7"])
def test_a_kept_chat_that_cannot_be_read_is_left(visit: Callable[..., Visit], spoilt: str):
    me = opened(visit, f"spoilt{ord(spoilt[-1])}")
    page = me.page
    key = f"kindling.playground.{page.locator('#playground').get_attribute('data-kept')}"
    page.evaluate(f"addEventListener('pagehide', () => sessionStorage.setItem('{key}', '{spoilt}'))")
    page.reload()
    replies(page, said(WHOLE))
    send(page, "One?")
    expect(page.locator(".msg .msg-text")).to_have_text(["One?", "Four."])
    page.get_by_role("button", name="Edit").wait_for()
    page.reload()
    expect(page.locator(".msg .msg-text")).to_have_text(["One?", "Four."])


def test_the_kept_chat_goes_when_somebody_signs_out(visit: Callable[..., Visit]):
    me = opened(visit, "leaver")
    page = me.page
    page.get_by_label("Message").fill("A secret")
    kept = "Object.keys(sessionStorage).filter((key) => key.startsWith('kindling.playground.')).length"
    page.goto("/console/account/")
    assert page.evaluate(kept) == 1
    page.locator("#main").get_by_role("button", name="Sign out").click()
    page.wait_for_url("**/accounts/login/")
    page.wait_for_function(f"{kept} === 0")


def test_the_same_request_is_shown_as_code(visit: Callable[..., Visit]):
    me = opened(visit, "coder")
    me.page.get_by_label("Message").fill("It's 2 + 2?")
    me.page.get_by_role("button", name="View code").click()
    code = me.page.locator("#code-pg-curl")
    expect(code).to_contain_text("It'\\''s 2 + 2?")
    expect(code).to_contain_text('"model": "kindling/spark"')
