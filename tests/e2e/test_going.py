"""Somebody takes their data along, deletes their organisation and then their account, and may come back."""

import json
import secrets
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from kindling_browser import PASSWORD, Visit
from kindling_tenant import poll

pytestmark = [pytest.mark.stack, pytest.mark.browser]
BODY = {"model": "kindling/spark", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 4}
OPTIONS: dict[str, Any] = {
    "resultTypes": ["violations"], "runOnly": ["wcag2a", "wcag2aa", "wcag21aa", "wcag22aa"],
}  # fmt: skip


def held(me: Visit) -> list[tuple[str, str]]:
    """What axe holds against the page, in both themes and as a phone shows it."""
    found = []
    for scheme, width in (("light", 1320), ("dark", 1320), ("light", 390)):
        me.page.set_viewport_size({"width": width, "height": 900})
        me.page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
        violations = Axe().run(me.page, options=OPTIONS).response["violations"]
        found += [(one["id"], node["html"][:200]) for one in violations for node in one["nodes"]]
        if me.sideways_scroll_px():
            found.append(("sideways", f"{width}"))
    return found


def answer(me: Visit, key: str) -> int:
    headers = {"Authorization": f"Bearer {key}"}
    return httpx.post(f"{me.url}/v1/chat/completions", json=BODY, headers=headers, timeout=60).status_code


def test_data_organisation_and_account_go_one_after_the_other(visit: Callable[..., Visit], tmp_path: Path):
    me, address = visit(), f"leaver-{secrets.token_hex(3)}@example.com"
    me.sign_up(address)
    page = me.page
    token = next(cookie["value"] for cookie in me.context.cookies() if cookie["name"] == "csrftoken")
    made = me.context.request.post(
        f"{me.url}/api/v1/keys", data={"name": "ci", "scopes": ["inference"]}, headers={"X-CSRFToken": token}
    ).json()
    assert answer(me, made["key"]) == 200

    page.goto("/console/account/")
    page.get_by_role("link", name="Download my data").click()
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Confirm").click()
    page.wait_for_url("**/console/account/data/")
    assert held(me) == []
    with page.expect_download() as download:
        page.get_by_role("button", name="Download my data").click()
    download.value.save_as(tmp_path / "data.zip")
    with zipfile.ZipFile(tmp_path / "data.zip") as archive:
        assert json.loads(archive.read("profile.json"))["email"] == address
        assert [key["name"] for key in json.loads(archive.read("api_keys.json"))] == ["ci"]

    # It was confirmed a moment ago, and is not asked for again.
    page.goto("/console/settings/")
    page.get_by_role("link", name="Delete this organisation").click()
    assert held(me) == []
    typed = page.get_by_label("to confirm")
    typed.fill("another")
    page.get_by_role("button", name="Delete organisation").click()
    expect(page.get_by_role("alert").filter(has_text="to confirm that you mean")).to_be_visible()
    expect(typed).to_be_focused()
    # The browser complains of the refused form, and of nothing else.
    assert len(me.complaints) == 1 and "status of 422" in me.complaints.pop()
    typed.fill(me.slug)
    page.get_by_role("button", name="Delete organisation").click()
    page.wait_for_url("**/console/")
    expect(page.locator("#toasts")).to_contain_text(f"{me.slug} is deleted.")
    assert poll(lambda: answer(me, made["key"]), lambda status: status != 200, seconds=10) in {401, 412}
    own = me.api("me")["organisation"]["slug"]
    assert own.startswith(f"{me.slug}-") and me.api("keys")["data"] == []

    page.goto("/console/account/delete/")
    expect(page.get_by_text("You are alone in it, so it is deleted with you")).to_be_visible()
    assert held(me) == []
    page.get_by_label("to confirm").fill(address)
    page.get_by_role("button", name="Delete my account").click()
    page.wait_for_url("**/accounts/login/")
    expect(page.locator("#toasts")).to_contain_text("Your account is deleted.")
    page.goto("/console/")
    page.wait_for_url("**/accounts/login/**")

    again = visit()
    again.sign_up(address)
    assert again.api("me")["user"]["email"] == address
