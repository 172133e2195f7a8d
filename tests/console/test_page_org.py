"""A page asks for things in the organisation that it shows, whichever was chosen in another tab since."""

import re
from pathlib import Path

import pytest
from django.test import Client
from django.urls import reverse

import kindling_console
from kindling_console_world import Member, World
from kindling_platform.accounts.models import Membership
from kindling_platform.adapters.models import Adapter
from kindling_platform.keys.models import ApiKey

HTMX = {"HX-Request": "true"}
KEYS = "/console/keys/"
KEY = {"name": "laptop", "scopes": ["inference"]}
HEADER = "X-Kindling-Org"
TEMPLATES = Path(kindling_console.__file__).parent / "templates" / "console"


@pytest.fixture
def dev(world: World, member: Member) -> Member:
    """Another organisation that the member belongs to, and whose pages are open in a tab."""
    grace = world.member("grace")
    Membership.objects.create(user=member.user, organisation=grace.org, role="admin")
    return grace


def change(client: Client, org_id: str, **more: str):
    return client.post(reverse("console:organisation-change"), {"organisation": org_id} | more)


def fields_of(client: Client, url: str) -> dict[str, str]:
    html = client.get(url).content.decode()
    return dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', html))


def test_a_form_of_a_page_of_another_organisation_is_refused_with_the_way_back(member: Member, dev: Member):
    change(member.client, dev.org.id)
    hidden = fields_of(member.client, KEYS)
    assert hidden["kindling_org"] == dev.org.id
    change(member.client, member.org.id)

    reply = member.client.post(KEYS, KEY | hidden, headers={"Referer": f"http://testserver{KEYS}"})
    html = reply.content.decode()
    assert reply.status_code == 409 and "<html" in html
    assert f"You changed to {member.org.name} in another tab." in html
    assert f"This page was for {dev.org.name}; nothing was done." in html
    assert not ApiKey.objects.exists()

    assert f'name="organisation" value="{dev.org.id}"' in html and f'name="next" value="{KEYS}"' in html
    assert change(member.client, dev.org.id, next=KEYS)["Location"] == KEYS
    assert member.client.post(KEYS, KEY | hidden).status_code == 200
    assert ApiKey.objects.get().organisation_id == dev.org.id


def test_in_a_page_it_is_a_note_at_the_top(member: Member, dev: Member):
    for method, url in (("post", KEYS), ("get", "/console/live/"), ("post", "/console/limits/")):
        reply = getattr(member.client, method)(url, headers=HTMX | {HEADER: dev.org.id})
        assert (reply.status_code, reply["HX-Retarget"]) == (409, "#stop"), url
        html = reply.content.decode()
        assert "<html" not in html and f"This page was for {dev.org.name}" in html, url
        assert member.org.name in html
    page = member.client.get("/console/").content.decode()
    assert f'"{HEADER}": "{member.org.id}"}}\'>' in page and 'id="stop"' in page
    assert member.client.get("/console/live/", headers=HTMX | {HEADER: member.org.id}).status_code == 200


def test_who_was_removed_is_told_so_and_nothing_more(world: World, member: Member, dev: Member):
    Membership.objects.filter(user=member.user, organisation=dev.org).delete()
    for shown in (dev.org.id, "org_of_nobody"):
        reply = member.client.post(KEYS, KEY | {"kindling_org": shown})
        html = reply.content.decode()
        assert reply.status_code == 409 and "not a member of any more" in html
        assert dev.org.name not in html and 'name="organisation"' not in html
    assert not ApiKey.objects.exists()


def test_what_is_of_no_organisation_goes_on(member: Member, dev: Member):
    shown = {"kindling_org": dev.org.id}
    assert member.client.post(reverse("console:account"), {"name": "Ada"} | shown).status_code == 303
    assert member.client.post(reverse("console:theme"), {"theme": "dark"} | shown).status_code == 303
    # The menu of an old page may name the organisation that is the present one already.
    assert change(member.client, member.org.id, **shown).status_code == 303
    assert change(member.client, dev.org.id, next="https://elsewhere.example")["Location"] == "/console/"


def test_the_api_refuses_a_page_of_another_organisation(world: World, member: Member, dev: Member):
    body = {"name": "intent", "base_model": world.model.ref, "files": []}
    reply = member.client.post(
        "/api/v1/adapters", body, content_type="application/json", headers={HEADER: dev.org.id}
    )
    assert (reply.status_code, reply.json()["error"]["code"]) == (409, "organisation_changed")
    assert f"This page was for {dev.org.name}" in reply.json()["error"]["message"]
    assert not Adapter.objects.exists()
    assert member.client.get("/api/v1/adapters", headers={HEADER: member.org.id}).status_code == 200


def test_every_form_that_changes_something_says_which_organisation_it_shows():
    forms = 0
    for path in TEMPLATES.rglob("*.html"):
        text = path.read_text()
        for tag, rest in re.findall(r"(<form\b[^>]*(?:{%.*?%}[^>]*)*>)(.*?)</form>", text, re.DOTALL):
            if 'method="post"' not in tag and "hx-post" not in tag:
                continue
            forms += 1
            assert "{% csrf_token %}" in rest, (path.name, tag)
            loaded = re.findall(r"{% load ([\w ]+) %}", text[: text.index("{% csrf_token %}")])
            assert any("kindling" in names.split() for names in loaded), path.name
        for asked in re.findall(r"<(\w+)[^>]*\bhx-(?:post|put|patch|delete)=", text):
            assert asked == "form", (path.name, "htmx sends the header only from pages with the frame")
    assert forms > 50


@pytest.mark.parametrize("script", ["playground_stream.js", "upload.js"])
def test_every_script_that_changes_something_says_it(script: str):
    text = (TEMPLATES.parents[1] / "static/console" / script).read_text()
    sent = re.findall(r'headers: {[^}]*"X-CSRFToken"[^}]*}', text)
    assert sent and all(f'"{HEADER}": org' in one for one in sent)


def test_no_other_script_sends_anything():
    # The theme is a cookie, and whoever changes back does so from any page.
    known = {"playground_stream.js", "upload.js", "console.js", "playground_refusals.js"}
    sending = {
        path.name
        for path in (TEMPLATES.parents[1] / "static/console").glob("*.js")
        if "method" in path.read_text()
    }
    assert sending == known
