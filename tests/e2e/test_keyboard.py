"""The console with no hand on a mouse: shortcuts, the palette, and a walk through what people come for."""

import contextlib
import re
import secrets
from collections.abc import Callable

import pytest
from playwright.sync_api import Error, Locator, Page, Route, expect

from kindling_browser import Visit

pytestmark = [pytest.mark.stack, pytest.mark.browser]
PHONE = {"width": 390, "height": 844}
# A key as an input method sends it while it composes a character.
COMPOSED = "key => document.body.dispatchEvent(new KeyboardEvent('keydown', { key, bubbles: true, isComposing: true }))"
CYRILLIC = (
    "([key, code]) => document.body.dispatchEvent(new KeyboardEvent('keydown', { key, code, bubbles: true }))"
)


def signed_up(visit: Callable[..., Visit], name: str, **options: object) -> Visit:
    me = visit(**options)
    me.sign_up(f"{name}-{secrets.token_hex(3)}@example.com")
    me.page.goto("/console/")
    return me


def palette(page: Page) -> Locator:
    return page.get_by_role("dialog", name="Search the console")


def tab_to(page: Page, target: Locator, most: int = 90) -> None:
    """Press Tab until something has the focus, as somebody without a mouse would."""
    for _ in range(most):
        page.keyboard.press("Tab")
        if target.evaluate("one => one === document.activeElement"):
            return
    raise AssertionError(f"Tab does not come to {target}")


def test_from_the_palette_to_a_key_that_is_called_and_what_it_cost(visit: Callable[..., Visit]):
    me = signed_up(visit, "keys")
    page = me.page
    page.keyboard.press("Control+k")
    expect(page.get_by_role("combobox", name="What to find")).to_be_focused()
    # Enter does not wait for the answer; it opens what comes.
    page.keyboard.type("api k")
    page.keyboard.press("Enter")
    page.wait_for_url("**/console/keys/")

    page.keyboard.press("n")
    expect(page.get_by_label("Name")).to_be_focused()
    page.keyboard.type("night jar")
    page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog")
    expect(dialog.locator("#new-key-text")).to_contain_text("kd_live_")
    # What is shown once is not left for a page, whichever keys are pressed.
    for keys in ("Control+k", "?", "g", "u"):
        page.keyboard.press(keys)
    expect(palette(page)).to_be_hidden()
    tab_to(page, dialog.get_by_label("I have stored it"))
    page.keyboard.press("Space")
    tab_to(page, dialog.get_by_role("button", name="Done"))
    page.keyboard.press("Enter")
    expect(page.get_by_role("cell", name="night jar").first).to_be_visible()
    page.wait_for_load_state()

    page.keyboard.press("g")
    page.keyboard.press("p")
    page.wait_for_url("**/console/playground/")
    tab_to(page, page.get_by_label("Model", exact=True))
    page.keyboard.type("kindling/spark")
    tab_to(page, page.get_by_label("Message"))
    page.keyboard.type("Hello! j k ? / g u")
    # From anywhere in the page, not from the message alone.
    tab_to(page, page.get_by_label("Top p"))
    page.keyboard.press("Control+Enter")
    expect(page.locator("[data-booked]")).to_have_count(1)
    expect(page.locator(".msg.is-user .msg-text")).to_have_text("Hello! j k ? / g u")

    page.get_by_label("Message").evaluate("one => one.blur()")
    page.keyboard.press("g")
    page.keyboard.press("u")
    page.wait_for_url("**/console/usage/")
    tab_to(page, page.get_by_role("link", name="Single requests"))
    page.keyboard.press("Enter")
    page.wait_for_url("**/console/usage/requests/**")
    page.keyboard.press("j")
    expect(page.locator("tbody > tr").first).to_be_focused()
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile(r"/usage/requests/[0-9a-f-]{36}/$"))
    # The key is found by its name, from wherever, and its row is the one that is shown.
    page.keyboard.press("Control+k")
    page.keyboard.type("jar")
    option = palette(page).get_by_role("option", name="night jar")
    expect(option).to_have_attribute("aria-selected", "true")
    page.keyboard.press("Enter")
    page.wait_for_url("**/console/keys/#key_*")
    expect(page.locator("tr:target")).to_contain_text("night jar")


def test_the_palette_is_walked_and_says_what_it_found(visit: Callable[..., Visit]):
    me = signed_up(visit, "walk")
    page = me.page
    box = page.get_by_role("combobox", name="What to find")
    opener = page.get_by_role("button", name="Search everything")
    opener.focus()
    page.keyboard.press("Enter")
    expect(palette(page).get_by_role("option").first).to_have_text(re.compile("Home"))
    names = palette(page).get_by_role("option").all_inner_texts()
    for pressed, place in (("ArrowDown", 1), ("ArrowUp", 0), ("ArrowUp", -1), ("ArrowDown", 0)):
        page.keyboard.press(pressed)
        chosen = palette(page).locator("[aria-selected=true]")
        expect(chosen).to_have_text(names[place], use_inner_text=True)
        assert box.get_attribute("aria-activedescendant") == chosen.get_attribute("id")
        expect(box).to_be_focused()
    page.keyboard.type("billing")
    said = palette(page).get_by_role("status")
    expect(said).to_have_text(re.compile(r"^\d+ results?$"))
    expect(box).to_have_attribute("aria-expanded", "true")
    page.keyboard.type(" of nobody")
    expect(said).to_have_text("Nothing found")
    expect(palette(page)).to_contain_text("Names of pages, models, adapters, deployments and API keys")
    expect(box).to_have_attribute("aria-expanded", "false")
    assert box.get_attribute("aria-activedescendant") is None
    page.keyboard.press("Enter")
    page.keyboard.press("Escape")
    expect(palette(page)).to_be_hidden()
    expect(opener).to_be_focused()
    # Ctrl and K closes what it has opened; a click beside it does too, and one on a result follows it.
    for close in (lambda: page.keyboard.press("Control+k"), lambda: page.mouse.click(5, 400)):
        page.keyboard.press("Control+k")
        expect(palette(page)).to_be_visible()
        close()
        expect(palette(page)).to_be_hidden()
    opener.click()
    palette(page).get_by_role("option", name="Limits").click()
    page.wait_for_url("**/console/limits/")
    page.go_back()
    expect(palette(page)).to_be_hidden()


def test_an_answer_that_comes_late_is_not_shown(visit: Callable[..., Visit]):
    me = signed_up(visit, "late")
    page, late = me.page, []

    def hold(route: Route) -> None:
        if route.request.url.endswith("?q=bill"):
            late.append(route)
        else:
            route.continue_()

    page.route("**/console/search/?q=*", hold)
    page.keyboard.press("Control+k")
    with page.expect_request(lambda request: request.url.endswith("?q=bill")):
        page.keyboard.type("bill")
    page.keyboard.press("Control+a")
    page.keyboard.type("usage")
    option = palette(page).get_by_role("option")
    expect(option.first).to_have_text("Usage g u", use_inner_text=True)
    assert len(late) == 1
    # It was given up, or else it comes now.
    with contextlib.suppress(Error):
        late[0].fulfill(body="<p>Billing, too late</p>", content_type="text/html")
    page.wait_for_timeout(300)
    expect(palette(page)).not_to_contain_text("too late")
    expect(option.first).to_contain_text("Usage")

    # A search that does not answer says so, and is asked again.
    page.route("**/console/search/?q=team", lambda route: route.abort())
    page.keyboard.press("Control+a")
    page.keyboard.type("team")
    expect(palette(page).get_by_role("alert")).to_contain_text("did not answer")
    page.unroute("**/console/search/?q=team")
    page.keyboard.press("Enter")
    page.wait_for_url("**/console/team/")
    me.complaints[:] = [one for one in me.complaints if "Failed to load resource" not in one]


def test_single_keys_act_nowhere_but_on_the_page(visit: Callable[..., Visit]):
    me = signed_up(visit, "fields")
    page = me.page
    page.goto("/console/catalog/")
    page.keyboard.press("/")
    search = page.get_by_label("Search models")
    expect(search).to_be_focused()
    page.keyboard.type("gk?/nj")
    expect(search).to_have_value("gk?/nj")
    expect(page.get_by_text("No model matches")).to_be_visible()
    page.wait_for_load_state("networkidle")
    page.locator("main select").first.focus()
    page.keyboard.type("gk?")
    page.locator("main").focus()
    for letter in ("g", "?", "/", "n"):
        page.evaluate(COMPOSED, letter)
    for keys in ("Control+g", "Alt+g", "Meta+g", "Shift+g", "k", "z"):
        page.keyboard.press(keys)
    expect(page.get_by_role("dialog")).to_be_hidden()
    assert page.url.split("?")[0].endswith("/console/catalog/")
    # After `g` comes a page, or nothing.
    page.keyboard.press("g")
    page.keyboard.press("n")
    page.keyboard.press("Shift+?")
    help_ = page.get_by_role("dialog", name="Keyboard shortcuts")
    expect(help_).to_be_visible()
    expect(help_.get_by_role("button", name="Close")).to_be_focused()
    page.keyboard.press("g")
    page.keyboard.press("k")
    expect(help_).to_be_visible()
    page.keyboard.press("Escape")
    expect(help_).to_be_hidden()
    # Where a page has no search of its own, everything is searched.
    page.goto("/console/billing/")
    page.keyboard.press("/")
    expect(palette(page)).to_be_visible()
    page.keyboard.press("Escape")
    # Keyboards that write another alphabet have their letters in the same places.
    for key, code in (("п", "KeyG"), ("л", "KeyK")):
        page.evaluate(CYRILLIC, [key, code])
    page.wait_for_url("**/console/keys/")


def test_single_keys_are_switched_off_by_keyboard_and_control_k_stays(visit: Callable[..., Visit]):
    me = signed_up(visit, "quiet")
    page = me.page
    page.get_by_label("Your account").focus()
    page.keyboard.press("Enter")
    tab_to(page, page.get_by_role("button", name="Keyboard shortcuts"))
    page.keyboard.press("Enter")
    help_ = page.get_by_role("dialog", name="Keyboard shortcuts")
    expect(help_).to_be_visible()
    page.keyboard.press("Enter")
    expect(help_).to_be_hidden()
    expect(page.get_by_label("Your account")).to_be_focused()
    page.keyboard.press("?")
    tab_to(page, help_.get_by_role("link", name="Switch them off"))
    page.keyboard.press("Enter")
    page.wait_for_url("**/console/account/#keyboard")
    tab_to(page, page.get_by_label("Single-key shortcuts"))
    page.keyboard.press("Space")
    tab_to(page, page.get_by_role("button", name="Save shortcuts"))
    page.keyboard.press("Enter")
    expect(page.get_by_text("Single-key shortcuts are off.").first).to_be_visible()
    page.wait_for_load_state()
    page.locator("main").focus()
    for keys in ("?", "/", "g", "k", "j", "n"):
        page.keyboard.press(keys)
    expect(page.get_by_role("dialog")).to_be_hidden()
    assert "/console/account/" in page.url
    page.keyboard.press("Control+k")
    page.keyboard.type("keyboard")
    page.keyboard.press("Enter")
    page.wait_for_url("**/console/account/#keyboard")
    expect(palette(page)).to_be_hidden()
    expect(page.get_by_label("Single-key shortcuts")).not_to_be_checked()


def test_a_row_keeps_the_focus_while_its_list_is_asked_for_again(visit: Callable[..., Visit]):
    me = signed_up(visit, "rows")
    page = me.page
    page.goto("/console/deployments/")
    rows = page.locator("#deployment-rows tbody > tr")
    expect(rows.first).to_be_visible()
    page.keyboard.press("j")
    expect(rows.first).to_be_focused()
    for _ in range(2):
        with page.expect_response("**/console/deployments/"):
            pass
    page.wait_for_timeout(200)
    expect(rows.first).to_be_focused()
    page.keyboard.press("k")
    expect(rows.first).to_be_focused()
    name = rows.first.get_by_role("link").first.inner_text()
    page.keyboard.press("Enter")
    page.wait_for_url("**/console/deployments/dep_*/")
    expect(page.get_by_role("heading", level=1)).to_have_text(name)
    page.goto("/console/catalog/")
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    page.wait_for_url("**/console/catalog/kindling/spark/")


def test_a_phone_has_a_button_for_it(visit: Callable[..., Visit]):
    me = signed_up(visit, "phone", viewport=PHONE, has_touch=True)
    page = me.page
    opener = page.get_by_role("button", name="Search everything")
    box = opener.bounding_box()
    assert box and box["width"] >= 24 and box["height"] >= 24 and box["x"] + box["width"] <= PHONE["width"]
    opener.tap()
    expect(palette(page)).to_be_visible()
    size = palette(page).bounding_box()
    assert size and size["x"] >= 0 and size["x"] + size["width"] <= PHONE["width"]
    assert me.sideways_scroll_px() == 0
    page.keyboard.type("team")
    palette(page).get_by_role("option", name="Team").tap()
    page.wait_for_url("**/console/team/")
    opener.tap()
    palette(page).get_by_role("button", name="Close the search").tap()
    expect(palette(page)).to_be_hidden()
