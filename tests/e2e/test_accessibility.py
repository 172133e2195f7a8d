"""axe looks at the main pages: by all rules of WCAG 2.2 AA, and once more at the contrast of the dark theme."""

from collections.abc import Callable
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from kindling_browser import Visit
from kindling_stack import Stack

pytestmark = [pytest.mark.stack, pytest.mark.browser]
BAD = {"serious", "critical"}
ALL: dict[str, Any] = {
    "resultTypes": ["violations"],
    "runOnly": ["wcag2a", "wcag2aa", "wcag21aa", "wcag22aa"],
}
CONTRAST = ALL | {"runOnly": ["color-contrast"]}
STRANGERS = ["accounts/login/", "status"]
MEMBERS = [
    "", "catalog/", "playground/", "adapters/upload/", "deployments/", "keys/", "usage/", "billing/", "limits/",
    "settings/", "playground/?mode=raw", "playground/shared/", "settings/webhooks/",
]  # fmt: skip
OPERATORS = ["operator/organisations/", "operator/status/", "operator/prices/", "operator/revenue/"]
# In the other theme other colours are set, and nothing else: those pages that have the most of them.
DARK = {"", "status", "playground/", "usage/", "billing/", "operator/prices/"}
FITS = """one => {
  const { left, right, top, bottom } = one.getBoundingClientRect();
  return left >= 0 && top >= 0 && right <= innerWidth && bottom <= innerHeight;
}"""


def held(me: Visit, options: dict[str, Any]) -> list[tuple[str, str]]:
    """What axe holds against the page as it is: which rule, and the element."""
    violations = Axe().run(me.page, options=options).response["violations"]
    bad = [one for one in violations if one["impact"] in BAD]
    return [(one["id"], node["html"][:200]) for one in bad for node in one["nodes"]]


def found(me: Visit, paths: list[str]) -> list[tuple[str, str, str]]:
    """What axe holds against some pages: where, which rule and theme, and the element."""
    findings = []
    # Pages that ask again by themselves change under axe's eyes.
    me.page.route("**/htmx.min.js*", lambda route: route.fulfill(body="", content_type="text/javascript"))
    for path in paths:
        me.page.goto(f"/{path}" if path.startswith(("accounts", "status")) else f"/console/{path}")
        for scheme, options in (("light", ALL), ("dark", CONTRAST)):
            if scheme == "dark" and path not in DARK:
                continue
            me.page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
            findings += [(path, f"{rule}, {scheme}", html) for rule, html in held(me, options)]
    return findings


def test_nothing_serious_is_found_on_pages_for_members(visit: Callable[..., Visit]):
    me = visit()
    assert found(me, STRANGERS) == []
    me.sign_up("axe@example.com")
    assert found(me, MEMBERS) == []
    me.page.set_viewport_size({"width": 390, "height": 844})
    assert found(me, ["billing/"]) == []


def test_nothing_serious_is_found_on_the_operators_pages(visit: Callable[..., Visit], stack: Stack):
    me, (email, password) = visit(), stack.operator_login()
    me.page.goto("/accounts/login/")
    me.page.get_by_label("Email").fill(email)
    me.page.get_by_label("Password").fill(password)
    me.page.get_by_role("button", name="Sign in", exact=True).click()
    me.page.wait_for_url("**/console/")
    assert found(me, OPERATORS) == []


def test_nothing_serious_is_found_in_what_the_keyboard_opens(visit: Callable[..., Visit]):
    me = visit()
    me.sign_up("axekeys@example.com")
    page = me.page
    page.goto("/console/catalog/")
    for width in (1320, 390):
        page.set_viewport_size({"width": width, "height": 844})
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
            for opened, shown in (
                ("?", "Go to a page"),
                ("Control+k", "API keys"),
                ("zzz", "Nothing is called"),
            ):
                page.keyboard.type(opened) if opened == "zzz" else page.keyboard.press(opened)
                dialog = page.get_by_role("dialog")
                expect(dialog.get_by_text(shown)).to_be_visible()
                assert held(me, ALL) == [], (width, scheme, opened)
                assert dialog.evaluate(FITS) and me.sideways_scroll_px() == 0, (width, opened)
                if opened != "Control+k":
                    page.keyboard.press("Escape")
                    expect(dialog).to_be_hidden()
