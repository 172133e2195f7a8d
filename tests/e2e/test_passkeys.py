"""A passkey in a real browser with a virtual key: added on a page, and all that signing in asks for afterwards."""

from collections.abc import Callable

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from kindling_browser import PASSWORD, Visit

pytestmark = [pytest.mark.stack, pytest.mark.browser]
KEY = {
    "protocol": "ctap2", "transport": "internal", "hasResidentKey": True, "hasUserVerification": True,
    "isUserVerified": True, "automaticPresenceSimulation": True,
}  # fmt: skip


def test_a_passkey_is_added_and_signs_in(visit: Callable[..., Visit]):
    here = visit()
    page = here.page
    here.sign_up("keyed@example.com")
    devices = here.context.new_cdp_session(page)
    devices.send("WebAuthn.enable")
    devices.send("WebAuthn.addVirtualAuthenticator", {"options": KEY})
    page.goto("/console/account/")
    page.get_by_role("link", name="Passkeys Sign in").click()
    page.get_by_role("link", name="Add a passkey").click()
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Confirm").click()
    page.get_by_label("Name").fill("Test key")
    page.get_by_role("button", name="Add passkey").click()
    expect(page.get_by_role("heading", name="Recovery codes")).to_be_visible()
    # The same device once more is a sentence, not a second passkey.
    page.goto("/accounts/2fa/webauthn/add/")
    page.get_by_role("button", name="Add passkey").click()
    expect(page.get_by_role("alert")).to_contain_text("has a passkey for this account already")
    page.goto("/accounts/2fa/webauthn/")
    expect(page.get_by_text("Test key")).to_be_visible()
    looked = Axe().run(page, options={"resultTypes": ["violations"], "runOnly": ["wcag2a", "wcag2aa"]})
    assert [one["id"] for one in looked.response["violations"]] == []

    page.goto("/console/account/")
    page.get_by_role("button", name="Sign out").click()
    page.wait_for_url("**/accounts/login/")
    page.goto("/accounts/login/?next=/console/keys/")
    page.get_by_role("button", name="Sign in with a passkey").click()
    page.wait_for_url(f"{here.url}/console/keys/")
    page.goto("/accounts/2fa/webauthn/")
    expect(page.get_by_text("last used")).to_be_visible()
    assert here.api("me")["user"]["email"] == "keyed@example.com"
