"""Keys are made, shown once, and revoked; with and without scripts."""

import re
from datetime import timedelta

from django.urls import reverse

from kindling_console_world import Member
from kindling_platform.common.clock import now
from kindling_platform.keys.models import ApiKey

URL = "/console/keys/"
HTMX = {"HX-Request": "true"}
FORM = {"name": "laptop", "scopes": ["inference", "read"], "expires": "30"}
SECRET = re.compile(r"kd_live_[0-9A-Za-z]{20,}")


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
    assert "data-open" not in html


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


def test_rotating_shows_a_successor_once_and_lets_the_old_key_end(member: Member):
    old = member.key("laptop")
    url = reverse("console:key-rotate", args=[old.id])
    assert f'href="{url}"' in member.client.get(URL).content.decode()
    asked = member.client.get(url).content.decode()
    assert "Rotate “laptop”?" in asked and f"{old.prefix}…{old.last4}" in asked
    assert ApiKey.objects.filter(organisation=member.org).count() == 1

    reply = member.client.post(url, {"overlap": "3600"})
    assert (reply.status_code, reply["Cache-Control"]) == (200, "no-store")
    (text,) = set(SECRET.findall(reply.content.decode()))
    old.refresh_from_db()
    made = ApiKey.objects.exclude(id=old.id).get(organisation=member.org)
    assert text.endswith(made.last4)
    assert (made.name, made.scopes, made.family_id) == ("laptop", old.scopes, old.id)
    assert old.revoked_at is None
    assert timedelta(minutes=59) < old.expires_at - now() <= timedelta(hours=1)


def test_the_answer_says_when_the_old_key_ends(member: Member):
    for overlap, said in (("3600", "goes on until"), ("0", "has ended")):
        old = member.key("laptop")
        html = member.client.post(
            reverse("console:key-rotate", args=[old.id]), {"overlap": overlap}
        ).content.decode()
        assert re.search(rf'The old key <span class="mono">{old}</span> {said}', html), overlap
        old.refresh_from_db()
        assert (f"{old.expires_at:%-d %B %Y, %H:%M} UTC" in html) is (overlap != "0")


def test_a_form_that_is_sent_again_makes_no_third_key(member: Member):
    old = member.key("laptop")
    url = reverse("console:key-rotate", args=[old.id])
    assert member.client.post(url, {"overlap": "86400"}).status_code == 200
    made = ApiKey.objects.exclude(id=old.id).get(organisation=member.org)
    again = member.client.post(url, {"overlap": "86400"}, follow=True)
    assert f"“laptop” was rotated already: {made} took its place" in again.content.decode()
    assert member.client.get(url)["Location"] == URL
    assert ApiKey.objects.filter(organisation=member.org).count() == 2
    page = member.client.get(URL).content.decode()
    assert "rotated already" in page
    assert f'href="{url}"' not in page and reverse("console:key-rotate", args=[made.id]) in page
    assert (
        member.client.post(reverse("console:key-rotate", args=[made.id]), {"overlap": "0"}).status_code == 200
    )


def test_what_cannot_be_rotated_says_why_and_changes_nothing(member: Member):
    key = member.key()
    url = reverse("console:key-rotate", args=[key.id])
    assert member.client.post(url, {"overlap": "-1"}).status_code == 422
    assert member.client.post(url, {}).status_code == 422
    assert member.client.post(reverse("console:key-revoke", args=[key.id])).status_code == 303
    reply = member.client.post(url, {"overlap": "0"}, follow=True)
    assert "This key is over. Make a new one." in reply.content.decode()
    assert ApiKey.objects.filter(organisation=member.org).count() == 1
    elsewhere = reverse("console:key-rotate", args=["key_000000000000"])
    assert member.client.get(elsewhere).status_code == 404


def test_the_playgrounds_keys_are_not_listed(member: Member):
    member.key("Playground", kind="playground")
    assert "No live key" in member.client.get(URL).content.decode()
