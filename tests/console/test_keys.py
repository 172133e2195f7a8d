"""Keys are made, shown once, and revoked; with and without scripts."""

import re

from django.urls import reverse

from kindling_console_world import Member
from kindling_platform.keys.models import ApiKey

URL = "/console/keys/"
HTMX = {"HX-Request": "true"}
FORM = {"name": "laptop", "scopes": ["inference", "read"], "expires": "30"}
SECRET = re.compile(r"kd_live_[0-9A-Za-z]+")


def test_a_key_is_shown_once_in_a_dialog_and_never_cached(member: Member):
    reply = member.client.post(URL, FORM, headers=HTMX)
    assert reply.status_code == 200
    assert reply["Cache-Control"] == "no-store"
    html = reply.content.decode()
    assert "<dialog" in html
    assert "I have stored it" in html
    (text,) = set(SECRET.findall(html))
    # The snippets beside it are ready to run.
    assert html.count(text) >= 4

    key = ApiKey.objects.get(organisation=member.org)
    assert (key.name, key.scopes, key.created_by) == ("laptop", ["inference", "read"], member.user)
    assert text.endswith(key.last4)
    assert 29 <= (key.expires_at - key.created_at).days <= 30
    after = member.client.get(URL).content.decode()
    assert text not in after
    assert f"{key.prefix}…{key.last4}" in after


def test_without_scripts_the_key_has_a_page_of_its_own(member: Member):
    reply = member.client.post(URL, FORM)
    assert reply.status_code == 200
    assert reply["Cache-Control"] == "no-store"
    html = reply.content.decode()
    assert "<h1>Your new key</h1>" in html
    assert SECRET.search(html)
    assert "<dialog" not in html


def test_a_refused_form_comes_back_with_its_values(member: Member):
    reply = member.client.post(URL, {"name": "staging", "scopes": []}, headers=HTMX)
    assert reply.status_code == 422
    html = reply.content.decode()
    assert "Choose at least one scope." in html
    assert 'value="staging"' in html
    assert "<html" not in html
    assert not ApiKey.objects.filter(organisation=member.org).exists()

    whole = member.client.post(URL, {"name": "", "scopes": ["read"]})
    assert whole.status_code == 422
    assert "<html" in whole.content.decode()


def test_a_name_is_shown_as_text(member: Member):
    member.key("<b>bold</b>")
    html = member.client.get(URL).content.decode()
    assert "&lt;b&gt;bold&lt;/b&gt;" in html
    assert "<b>bold</b>" not in html


def test_revoking_asks_first_and_goes_back_to_the_list(member: Member):
    key = member.key()
    url = reverse("console:key-revoke", args=[key.id])
    assert "cannot be undone" in member.client.get(url).content.decode()
    key.refresh_from_db()
    assert key.revoked_at is None

    reply = member.client.post(url)
    assert (reply.status_code, reply["Location"]) == (303, URL)
    key.refresh_from_db()
    assert key.revoked_at is not None
    assert "Revoked and expired (1)" in member.client.get(URL).content.decode()


def test_the_playgrounds_keys_are_not_listed(member: Member):
    member.key("Playground", kind="playground")
    assert "No live key" in member.client.get(URL).content.decode()
