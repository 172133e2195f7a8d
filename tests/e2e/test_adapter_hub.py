"""An adapter from the hub in a browser: the form, the download that is followed, a hub that is away, a wrong one."""

import re
import secrets
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Page, expect

from kindling_browser import Visit
from kindling_hub import Hub
from kindling_hub_adapters import CONFIG, REPOSITORY, WEIGHTS, hub_with, large_adapter
from kindling_platform.adapters.receiving import HEAD_BYTES
from kindling_stack import Stack

pytestmark = [pytest.mark.stack, pytest.mark.browser]
FILES = large_adapter()


@pytest.fixture
def hub(stack: Stack) -> Iterator[Hub]:
    assert stack.hub is not None
    hub_with(stack.hub, FILES)
    yield stack.hub
    stack.hub.status = 0
    stack.hub.hold_at.clear()
    stack.hub.go_on.set()
    stack.hub.repositories.clear()


def fetch(visit: Callable[..., Visit]) -> Page:
    """Ask for it on the upload page; gives the page that follows it."""
    me = visit()
    me.sign_up(f"hub-{secrets.token_hex(3)}@example.com")
    page = me.page
    page.goto("/console/adapters/upload/")
    page.get_by_label("Repository").fill(REPOSITORY)
    page.get_by_label("Call it").fill("support")
    page.get_by_role("button", name="Fetch adapter").click()
    page.wait_for_url(re.compile(r"/console/adapters/adp_\w+/$"))
    return page


def test_it_is_followed_from_the_hub_to_its_first_words(visit: Callable[..., Visit], hub: Hub):
    hub.go_on.clear()
    hub.hold_at[WEIGHTS] = HEAD_BYTES + 300_000
    page = fetch(visit)
    expect(page.get_by_role("heading", name="Being fetched from the hub")).to_be_visible()
    expect(page.get_by_label("Fetched")).to_have_attribute("max", str(sum(map(len, FILES.values()))))
    hub.hold_at.clear()
    hub.go_on.set()
    expect(page.get_by_role("heading", name="Ready to call")).to_be_visible()
    expect(page.get_by_text("names the licence mit")).to_be_visible()
    page.get_by_role("link", name="Try it").click()
    page.get_by_label("Longest answer").fill("8")
    page.get_by_label("Message").fill("I was charged twice.")
    page.get_by_role("button", name="Send").click()
    expect(page.locator("[data-booked]")).to_have_count(1)


def test_a_hub_that_is_away_is_said_in_words_and_asked_again(visit: Callable[..., Visit], hub: Hub):
    hub.status = 503
    page = fetch(visit)
    expect(page.get_by_text("could not be reached from this installation")).to_be_visible()
    hub.status = 0
    expect(page.get_by_role("heading", name="Ready to call")).to_be_visible()


def test_a_wrong_one_says_why_and_is_tried_again_with_what_was_given(visit: Callable[..., Visit], hub: Hub):
    hub_with(hub, {CONFIG: FILES[CONFIG], "adapter_model.bin": b"x"})
    page = fetch(visit)
    expect(page.get_by_role("heading", name="Rejected")).to_be_visible()
    expect(page.get_by_text("kindling adapters convert")).to_be_visible()
    expect(page.get_by_role("link", name="pickle_refused")).to_have_attribute(
        "href", re.compile(r"/errors/#pickle_refused$")
    )
    page.get_by_role("link", name="Try again").click()
    expect(page.get_by_label("Repository")).to_have_value(REPOSITORY)
    expect(page.get_by_label("Call it")).to_have_value("support")
