"""Names as long as they may be push nothing out of sight."""

from collections.abc import Callable

import pytest
from playwright.sync_api import expect

from kindling_browser import Visit

pytestmark = [pytest.mark.stack, pytest.mark.browser]
LONG = "a" * 80
WIDTHS = (1600, 1280, 1100, 800, 390)
IN_SIGHT = (
    "link => { const box = link.getBoundingClientRect(); return box.left >= 0 && box.right <= innerWidth; }"
)
CUT = "title => title.scrollWidth > title.clientWidth"


def test_a_keys_actions_stay_in_sight(visit: Callable[..., Visit]):
    me = visit(viewport={"width": 390, "height": 800})
    me.sign_up("longnames@example.com")
    page = me.page
    for name in ("laptop", LONG):
        page.goto("/console/keys/")
        page.get_by_label("Name").fill(name)
        for scope in ("Read", "Manage"):
            page.get_by_label(scope).check()
        page.get_by_label("Expires").select_option("365")
        page.get_by_role("button", name="Create key").click()
        dialog = page.get_by_role("dialog")
        assert not dialog.get_by_role("heading", level=2).evaluate(CUT)
        dialog.get_by_label("I have stored it").check()
        dialog.get_by_role("button", name="Done").click()
        expect(page.get_by_role("link", name=f"Revoke {name}", exact=True)).to_be_visible()
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 800})
        for name in ("laptop", LONG):
            for action in ("Limits of", "Revoke"):
                link = page.get_by_role("link", name=f"{action} {name}", exact=True)
                assert link.evaluate(IN_SIGHT), (width, action, name)
        assert me.sideways_scroll_px() == 0, width
