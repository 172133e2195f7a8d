"""Signing up, in, out, and back in after forgetting; without any inline script."""

import re

import pytest
from django.test import Client

from kindling_console_world import Member, World

PASSWORD = "correct horse battery 7"
PAGES = ["login", "login/code", "signup", "password/reset", "password/reset/done"]


@pytest.mark.parametrize("path", PAGES)
def test_pages_for_strangers(world: World, client: Client, path: str):
    reply = client.get(f"/accounts/{path}/")
    html = reply.content.decode()
    assert reply.status_code == 200
    assert len(re.findall("<h1[ >]", html)) == 1
    assert 'class="entrance-card"' in html
    assert " style=" not in html
    assert not re.search(r"<script(?![^>]*src=)", html)


@pytest.mark.parametrize(
    "path", ["password/change", "2fa", "2fa/totp/activate", "email", "sessions", "logout"]
)
def test_pages_about_oneself_keep_the_frame(member: Member, path: str):
    reply = member.client.get(f"/accounts/{path}/", follow=True)
    html = reply.content.decode()
    assert reply.status_code == 200
    assert len(re.findall("<h1[ >]", html)) == 1
    assert not re.search(r"<script(?![^>]*(src=|application/json))", html)


def test_a_stranger_becomes_an_owner_with_credit(world: World, client: Client):
    form = {"email": "new@example.com", "password1": PASSWORD, "password2": PASSWORD}
    reply = client.post("/accounts/signup/", form, follow=True)
    assert reply.redirect_chain[-1][0] == "/console/"
    html = reply.content.decode()
    assert "$1.000000" in html
    assert "0 of 4 done" in html
    assert "uccessfully" not in html

    assert client.post("/accounts/logout/", follow=True).status_code == 200
    assert client.get("/console/").status_code == 302
    back = client.post(
        "/accounts/login/?next=/console/keys/", {"login": "new@example.com", "password": PASSWORD}
    )
    assert back["Location"] == "/console/keys/"


def test_whoever_changes_their_address_signs_in_with_the_new_one(world: World, client: Client):
    form = {"email": "old@example.com", "password1": PASSWORD, "password2": PASSWORD}
    client.post("/accounts/signup/", form, follow=True)
    assert 'href="/accounts/email/"' in client.get("/console/account/").content.decode()
    client.post("/accounts/email/", {"action_add": "", "email": "next@example.com"})
    client.post("/accounts/email/", {"action_primary": "", "email": "next@example.com"})
    client.post("/accounts/email/", {"action_remove": "", "email": "old@example.com"})
    assert "next@example.com" in client.get("/console/account/").content.decode()
    client.post("/accounts/logout/")
    for address, place in (("old@example.com", 200), ("next@example.com", 302)):
        reply = client.post("/accounts/login/", {"login": address, "password": PASSWORD})
        assert reply.status_code == place
    assert client.get("/console/").status_code == 200


def test_mistakes_are_shown_at_their_field(world: World, client: Client):
    form = {"email": "new@example.com", "password1": "short", "password2": "short"}
    html = client.post("/accounts/signup/", form).content.decode()
    assert 'class="field-error" role="alert"' in html
    assert 'value="new@example.com"' in html


def test_the_theme_is_remembered_without_scripts(member: Member):
    url = "/console/theme/"
    reply = member.client.post(url, {"theme": "dark", "next": "/console/keys/"})
    assert (reply.status_code, reply["Location"]) == (303, "/console/keys/")
    assert 'data-bs-theme="dark"' in member.client.get("/console/").content.decode()
    member.client.post(url, {"theme": ""})
    assert "data-bs-theme" not in member.client.get("/console/").content.decode().split("<body")[0]
    elsewhere = member.client.post(url, {"theme": "light", "next": "https://example.com/"})
    assert elsewhere["Location"] == "/console/"


def test_ones_name_can_be_changed(member: Member):
    assert member.client.post("/console/account/", {"name": "Ada"}).status_code == 303
    member.user.refresh_from_db()
    assert member.user.name == "Ada"
    assert member.client.post("/console/account/", {"name": ""}).status_code == 422
