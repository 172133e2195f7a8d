"""Every page at 360 px and in both themes; everything by plain forms; the keyboard."""

from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import expect

from kindling_browser import Visit
from kindling_stack import Stack

pytestmark = [pytest.mark.stack, pytest.mark.browser]
PAGES = [
    "", "catalog/", "catalog/kindling/spark/", "playground/", "adapters/", "adapters/upload/", "deployments/", "keys/",
    "usage/", "usage/requests/", "billing/", "limits/", "team/", "settings/", "settings/activity/", "account/",
    "settings/webhooks/",
]  # fmt: skip
GROUND = "getComputedStyle(document.body).backgroundColor"
GROUNDS = {"light": "rgb(250, 249, 247)", "dark": "rgb(19, 18, 17)"}


def test_pages_fit_a_narrow_screen_in_both_themes(visit: Callable[..., Visit]):
    me = visit(viewport={"width": 360, "height": 760})
    me.sign_up("narrow@example.com")
    for path in PAGES:
        me.page.goto(f"/console/{path}")
        expect(me.page.get_by_role("heading", level=1)).to_have_count(1)
        # The system's theme is followed without a script's help, on every page alike.
        for scheme, ground in GROUNDS.items():
            me.page.emulate_media(color_scheme=scheme)
            assert me.page.evaluate(GROUND) == ground, path
            assert me.sideways_scroll_px() == 0, (path, scheme)


def test_the_menu_opens_on_a_narrow_screen(visit: Callable[..., Visit]):
    me = visit(viewport={"width": 360, "height": 760})
    me.sign_up("menu@example.com")
    me.page.goto("/console/")
    link = me.page.get_by_role("navigation", name="Console").get_by_role("link", name="API keys")
    expect(link).to_be_hidden()
    me.page.get_by_text("Menu", exact=True).click()
    link.click()
    me.page.wait_for_url("**/console/keys/")


def test_the_theme_can_be_chosen_and_stays(visit: Callable[..., Visit]):
    me = visit(color_scheme="light")
    me.sign_up("theme@example.com")
    me.page.goto("/console/")
    me.page.get_by_label("Theme").click()
    with me.page.expect_response("**/console/theme/"):
        me.page.get_by_role("button", name="Dark").click()
    assert me.page.evaluate(GROUND) == GROUNDS["dark"]
    me.page.reload()
    assert me.page.evaluate(GROUND) == GROUNDS["dark"]


def test_the_keyboard_alone_reaches_the_content(visit: Callable[..., Visit]):
    me = visit()
    me.sign_up("keyboard@example.com")
    page = me.page
    page.goto("/console/catalog/")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("main")).to_be_focused()
    page.keyboard.press("/")
    expect(page.get_by_label("Search models")).to_be_focused()
    page.keyboard.type("nothing like this")
    expect(page.get_by_text("No model matches")).to_be_visible()
    assert "q=nothing+like+this" in page.url
    expect(page.locator("#status")).to_have_text("0 of 1 models")


def test_everything_works_without_scripts(visit: Callable[..., Visit], intent: Path):
    me = visit(java_script_enabled=False)
    me.sign_up_on_the_page("plain@example.com")
    page = me.page
    page.goto("/console/keys/")
    page.get_by_label("Name").fill("plain")
    page.get_by_role("button", name="Create key").click()
    expect(page.locator("#new-key-text")).to_contain_text("kd_live_")
    expect(page.get_by_role("button", name="Copy")).to_have_count(0)

    page.goto("/console/adapters/upload/")
    page.get_by_label("Name").fill("intent")
    page.set_input_files("#id_files", [intent / "adapter_config.json", intent / "adapter_model.safetensors"])
    page.get_by_role("button", name="Upload adapter").click()
    for _ in range(60):
        if page.get_by_role("heading", name="Ready to call").count():
            break
        page.wait_for_timeout(500)
        look = page.get_by_role("link", name="Look again")
        look.click() if look.count() else page.reload()
    page.get_by_role("link", name="Try it").click()
    page.get_by_label("Temperature").fill("0")
    page.get_by_label("Message").fill("I was charged twice for my order")
    page.get_by_role("button", name="Send").click()
    expect(page.locator(".msg.is-model .msg-text")).to_contain_text('"intent"')


def test_signing_out_and_in_again(visit: Callable[..., Visit]):
    from kindling_browser import PASSWORD

    me = visit()
    me.sign_up("returner@example.com")
    page = me.page
    page.goto("/console/")
    page.get_by_label("Your account").click()
    page.get_by_role("button", name="Sign out").click()
    page.wait_for_url("**/accounts/login/")
    page.goto("/console/usage/")
    page.get_by_label("Email").fill("returner@example.com")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in", exact=True).click()
    page.wait_for_url("**/console/usage/")
    expect(page.get_by_role("heading", name="Usage", exact=True)).to_be_visible()


def test_the_operator_grants_credit(visit: Callable[..., Visit], stack: Stack):
    customer = visit()
    customer.sign_up("granted@example.com")
    email, password = stack.operator_login()
    operator = visit()
    page = operator.page
    page.goto("/accounts/login/")
    page.get_by_label("Email").fill(email)
    page.get_by_label("Password").fill(password)
    page.get_by_role("button", name="Sign in", exact=True).click()
    page.goto("/console/operator/organisations/?q=granted")
    page.get_by_role("link", name="granted").first.click()
    page.get_by_label("Amount in US dollars").fill("25")
    page.get_by_role("region", name="Grant credit").get_by_label("Reason").fill("For trying it")
    page.get_by_role("button", name="Grant credit").click()
    expect(page.get_by_text("The credit is granted.").first).to_be_visible()
    assert customer.balance_picousd() == 26 * 10**12
    for path in ("organisations", "prices", "fleet", "mail"):
        page.goto(f"/console/operator/{path}/")
        expect(page.get_by_role("heading", level=1)).to_have_count(1)
