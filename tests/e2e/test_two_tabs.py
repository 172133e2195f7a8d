"""Two tabs of one browser, in which another organisation is chosen in one of them."""

import secrets
from collections.abc import Callable

import psycopg
import pytest
from playwright.sync_api import expect

from kindling_browser import Visit
from kindling_stack import Stack

pytestmark = [pytest.mark.stack, pytest.mark.browser]


def invited(stack: Stack, me: Visit, other: Visit) -> str:
    """Make somebody a member of another's organisation too; gives its name."""
    org = other.api("me")["organisation"]
    with psycopg.connect(stack.state["database_url"]) as db:
        db.execute(
            "INSERT INTO accounts_membership (id, user_id, organisation_id, role, created_at)"
            " SELECT %s, id, %s, 'developer', now() FROM accounts_user WHERE email = %s",
            [f"mem_{secrets.token_hex(13)}", org["id"], me.email],
        )
    return str(org["name"])


def change(me: Visit, name: str) -> None:
    """Choose another organisation in a tab of its own."""
    tab = me.context.new_page()
    tab.goto("/console/")
    tab.get_by_label("Change the organisation").click()
    tab.get_by_role("button", name=name).click()
    tab.wait_for_load_state()
    expect(tab.locator(".org-chip")).to_contain_text(name)
    tab.close()


def test_a_page_asks_for_nothing_in_an_organisation_that_it_does_not_show(
    visit: Callable[..., Visit], stack: Stack
):
    me, other = visit(), visit()
    mark = secrets.token_hex(3)
    me.sign_up(f"tabber-{mark}@example.com")
    other.sign_up(f"tabbed-{mark}@example.com")
    name = invited(stack, me, other)
    own, page = me.api("me")["organisation"]["name"], me.page

    page.goto("/console/keys/")
    change(me, name)
    page.get_by_label("Name").fill("laptop")
    page.get_by_role("button", name="Create key").click()
    note = page.get_by_role("alert").filter(has_text=f"You changed to {name} in another tab.")
    expect(note).to_contain_text(f"This page was for {own}; nothing was done.")
    expect(page.get_by_label("Name")).to_have_value("laptop")
    assert me.api("keys")["data"] == []
    note.get_by_role("button", name=f"Change back to {own}").click()
    page.wait_for_url("**/console/keys/")
    page.get_by_label("Name").fill("laptop")
    page.get_by_role("button", name="Create key").click()
    expect(page.get_by_role("dialog").locator("#new-key-text")).to_be_visible()
    assert len(me.api("keys")["data"]) == 1

    # A page that asks by itself says so by itself, once.
    page.goto("/console/")
    change(me, name)
    expect(note).to_be_visible()
    expect(note).to_have_count(1)
    expect(page.get_by_role("heading", name="Latest requests")).to_be_visible()
    note.get_by_role("button", name=f"Change back to {own}").click()

    page.wait_for_url("**/console/")
    page.goto("/console/playground/?model=kindling/spark")
    change(me, name)
    page.get_by_label("Message").fill("Hello!")
    page.get_by_role("button", name="Send").click()
    expect(page.locator(".pg-log .note")).to_contain_text(f"This page was for {own}; nothing was done.")
    page.get_by_role("button", name="Change back").click()
    page.wait_for_url("**/console/playground/?model=kindling/spark")
    expect(page.locator(".org-chip")).to_contain_text(own)
    expect(page.get_by_label("Message")).to_have_value("Hello!")
    assert me.api("usage/requests")["data"] == []
    me.complaints = [text for text in me.complaints if "409" not in text]
