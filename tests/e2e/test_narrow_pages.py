"""What a phone shows: a chart beside its values, switches apart from each other, a refused form where it is to mend."""

import os
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import expect

from kindling_browser import Visit

pytestmark = [pytest.mark.stack, pytest.mark.browser]
PHONE = {"width": 390, "height": 844}
IN_SIGHT = "one => { const b = one.getBoundingClientRect(); return b.left >= 0 && b.right <= innerWidth; }"
LETTER_PX = "one => parseFloat(getComputedStyle(one).fontSize) * one.getScreenCTM().a"
IN_WINDOW = "one => { const b = one.getBoundingClientRect(); return b.top >= 0 && b.bottom <= innerHeight; }"


def call(me: Visit) -> None:
    token = next(c["value"] for c in me.context.cookies() if c["name"] == "csrftoken")
    made = me.context.request.post(
        f"{me.url}/api/v1/keys",
        data={"name": "laptop", "scopes": ["inference"]},
        headers={"X-CSRFToken": token},
    )
    body = {"model": "kindling/spark", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 8}
    headers = {"Authorization": f"Bearer {made.json()['key']}"}
    assert (
        httpx.post(f"{me.url}/v1/chat/completions", json=body, headers=headers, timeout=60).status_code == 200
    )


def test_a_chart_is_read_on_a_phone(visit: Callable[..., Visit]):
    me = visit(viewport=PHONE)
    me.sign_up("phone@example.com")
    call(me)
    page = me.page
    page.goto("/console/usage/")
    for _ in range(60):
        if page.locator(".chart").count():
            break
        page.wait_for_timeout(250)
        page.reload()
    axis = page.locator(".chart-axis text")
    expect(axis).to_have_count(5)
    for place in range(5):
        assert axis.nth(place).evaluate(IN_SIGHT) and axis.nth(place).evaluate(LETTER_PX) >= 10
    plot = page.get_by_role("region", name="chart")
    assert plot.get_attribute("tabindex") == "0"
    label = plot.locator("text.axis").last
    assert label.evaluate(IN_SIGHT) and label.evaluate(LETTER_PX) >= 10
    boxes = [one.bounding_box() for one in page.locator(".card-head:has(#chart) .segments").all()]
    assert len(boxes) == 2 and all(boxes)
    assert boxes[0]["y"] + boxes[0]["height"] <= boxes[1]["y"] + 1
    assert me.sideways_scroll_px() == 0
    if folder := os.environ.get("KINDLING_SCREENSHOTS"):
        page.screenshot(path=Path(folder) / "usage-phone.png", full_page=True)
        page.set_viewport_size({"width": 1280, "height": 900})
        page.screenshot(path=Path(folder) / "usage-wide.png", full_page=True)


def test_the_status_page_fits_the_smallest_phone(visit: Callable[..., Visit]):
    me = visit(viewport={"width": 360, "height": 740}, java_script_enabled=False)
    me.page.goto("/status")
    expect(me.page.locator(".component")).to_have_count(5)
    assert me.page.locator(".strip").first.evaluate(IN_SIGHT)
    assert me.sideways_scroll_px() == 0


def test_a_refused_form_is_in_sight_and_has_the_focus(visit: Callable[..., Visit]):
    me = visit(viewport=PHONE, reduced_motion="reduce")
    me.sign_up("missed@example.com")
    page = me.page
    page.goto("/console/billing/")
    page.get_by_label("Stop after, in a month").fill("7.505")
    with page.expect_response(lambda reply: reply.request.method == "POST") as answer:
        page.get_by_role("button", name="Save the limit").click()
    assert answer.value.status == 422
    # The browser calls an answer of 422 an error, which it is.
    me.page.wait_for_load_state()
    me.complaints[:] = [one for one in me.complaints if "status of 422" not in one]
    expect(page.get_by_text("Give whole cents, such as 7.50.")).to_be_visible()
    field = page.get_by_label("Stop after, in a month")
    expect(field).to_be_focused()
    expect(field).to_have_accessible_description(
        "Leave it empty for no limit. Give whole cents, such as 7.50."
    )
    assert field.evaluate(IN_WINDOW)
    # A tab stop that is out of sight there belongs to narrow windows alone.
    page.set_viewport_size({"width": 1280, "height": 900})
    expect(page.locator("#nav-check")).to_be_hidden()
