"""The search over pages and names: what is found and in which order, for whom, and what it costs."""

import re
from pathlib import Path

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

import kindling_console
from kindling_console.navigation import GO_KEYS
from kindling_console.search_places import BEHIND, WORDS, place_list
from kindling_console.searching import PER_KIND, hit_groups
from kindling_console_world import Member, World
from kindling_platform.accounts.models import Membership, Organisation
from kindling_platform.accounts.roles import ROLE_ACTIONS
from kindling_platform.keys.services import key_revoke

URL = "/console/search/"
PALETTE = {"HX-Request": "true"}
KINDS = {
    "Models": "models.read", "Adapters": "adapters.read", "Deployments": "deployments.read", "API keys": "keys.read",
}  # fmt: skip


def html_of(member: Member, query: str, **headers: str) -> str:
    reply = member.client.get(URL, {"q": query}, headers=PALETTE | headers)
    assert reply.status_code == 200
    return reply.content.decode()


def found(member: Member, query: str) -> dict[str, list[str]]:
    """The titles of what the palette shows, by their kinds, in its order."""
    groups = html_of(member, query).split('<p class="palette-kind"')[1:]
    return {
        re.findall(r">([^<]+)</p>", group)[0]: re.findall(r'palette-name">([^<]+?) ?<', group)
        for group in groups
    }


def everything(world: World, member: Member, name: str) -> None:
    """One of each kind that is called like this."""
    world.adapter(member, name=f"{name}-adapter")
    member.key(f"{name}-key")
    deployment, model = world.deployment, world.model
    model.pk, model.name, model.display_name = f"mdl_{name}", f"{name}-model", f"{name}-model"
    model.organisation, model.is_public, model._state.adding = member.org, False, True
    model.save()
    deployment.pk, deployment.name, deployment.model = f"dep_{name}", f"{name}-deployment", model
    deployment.organisation, deployment._state.adding = member.org, True
    deployment.save()


def test_names_are_found_by_any_part_of_them_the_best_first(world: World, member: Member):
    for name in ("my intent", "Intent", "intent-two", "unintentional", "other"):
        member.key(name)
    assert found(member, "intent") == {"API keys": ["Intent", "intent-two", "my intent", "unintentional"]}
    assert found(member, "  INTENT   my ") == {"API keys": ["my intent"]}
    # What a pattern would take for anything is a character like any other.
    assert found(member, "%") == found(member, "i_tent") == {}
    assert found(member, "in\0x") == {}


def test_a_kind_comes_before_others_when_its_best_is_better(world: World, member: Member):
    world.adapter(member, name="teamwork")
    assert list(found(member, "team")) == ["Pages", "Adapters"]
    assert found(member, "key")["Pages"] == ["API keys", "Create key", "Single-key shortcuts", "Passkeys"]
    assert list(found(member, "teamwork")) == ["Adapters"]
    member.key("Settings of the bot")
    assert list(found(member, "settings of")) == ["API keys"]
    world.adapter(member, name="cost")
    # Usage is found by another word for it, the adapter by its name.
    assert found(member, "cost") == {"Adapters": [f"{member.org.slug}/cost"], "Pages": ["Usage"]}


def test_each_leads_to_its_page(world: World, member: Member):
    everything(world, member, "quartz")
    for query in ("quartz", "keys", f"{member.org.slug}/quartz"):
        links = re.findall(r'role="option"[^>]* href="([^"]+)"', html_of(member, query))
        assert links, query
        for link in links:
            assert member.client.get(link.split("#")[0]).status_code == 200, link
    # A model of one's own may have no price yet.
    for page in ("/console/catalog/", f"/console/catalog/{member.org.slug}/quartz-model/"):
        assert "no price" in member.client.get(page).content.decode(), page
    html = html_of(member, "quartz-key")
    (place,) = re.findall(r'href="/console/keys/#([^"]+)"', html)
    assert f'<tr id="{place}">' in member.client.get("/console/keys/").content.decode()


def test_keys_are_found_while_they_work_by_name_or_end(world: World, member: Member):
    key, old = member.key("quartz"), member.key("quartz of old")
    key_revoke(org=member.org, key_id=old.id, actor=member.actor)
    assert found(member, "quartz") == {"API keys": ["quartz"]}
    assert found(member, key.last4)["API keys"] == found(member, key.last4.upper())["API keys"] == ["quartz"]
    assert "API keys" not in found(member, key.last4[1:])
    assert key.last4 in html_of(member, "quartz")


def test_names_of_others_never_appear(world: World, member: Member):
    other = world.member("grace")
    everything(world, other, "quartz")
    Organisation.objects.filter(id=other.org.id).update(name="Quartz Works")
    assert set(found(other, "quartz")) == set(KINDS)
    for query in ("quartz", "q", other.org.slug, other.user.email):
        html = html_of(member, query)
        shown = html.replace(f"“{query}”", "")
        for name in ("quartz", "Quartz", other.org.slug):
            assert name not in shown, (query, name)
    assert found(member, "quartz") == {}
    # Those who run the place find the organisation, and no more of it than its pages show them.
    assert set(found(world.operator, "quartz")) == {"Organisations"}


def test_whoever_was_removed_finds_nothing_of_it_any_more(world: World, member: Member):
    other = world.member("grace")
    everything(world, other, "quartz")
    membership = Membership.objects.create(user=member.user, organisation=other.org, role="owner")
    member.client.post(reverse("console:organisation-change"), {"organisation": other.org.id})
    assert set(found(member, "quartz")) == set(KINDS)
    membership.delete()
    assert found(member, "quartz") == {}


@pytest.mark.parametrize("role", ROLE_ACTIONS)
def test_a_role_finds_what_its_pages_show(world: World, member: Member, role: str):
    everything(world, member, "quartz")
    member.role(role)
    expected = {kind for kind, action in KINDS.items() if action in ROLE_ACTIONS[role]}
    assert set(found(member, "quartz")) == expected
    empty = html_of(member, "nothing like it")
    words = {"Models": "models", "Adapters": "adapters", "Deployments": "deployments", "API keys": "API keys"}
    for kind, word in words.items():
        assert (word in empty) == (kind in expected), kind
    assert "organisations" not in empty
    # Every page that is offered opens; those of the account may ask for the password first.
    visitor = member.client.get(URL).context["visitor"]()
    places = place_list(visitor)
    assert len(places) > 10
    for place in places:
        reply = member.client.get(place.url.split("#")[0])
        assert reply.status_code == 200 or reply["Location"].startswith("/accounts/"), place
        if anchor := place.url.partition("#")[2]:
            assert f'id="{anchor}"' in reply.content.decode(), place
    titles = {place.title for place in places}
    assert ("Create key" in titles) == ("keys.write" in ROLE_ACTIONS[role])
    assert "Fleet" not in titles and "Price table" not in titles


def test_the_operator_finds_organisations_and_their_own_pages(world: World):
    customer = world.member("quartz")
    assert found(world.operator, customer.org.slug)["Organisations"] == [customer.org.name]
    assert "Fleet" in found(world.operator, "fleet")["Pages"]
    assert "organisations" in html_of(world.operator, "nothing like it")
    for place in place_list(world.operator.client.get(URL).context["visitor"]()):
        reply = world.operator.client.get(place.url.split("#")[0])
        assert reply.status_code == 200 or reply["Location"].startswith("/accounts/"), place


def test_without_a_query_it_has_the_pages_of_the_side_bar_and_their_keys(world: World, member: Member):
    html = html_of(member, "   ")
    side_bar = re.findall(r'class="nav-link-side" href="([^"]+)" data-go="(\w)"', home := home_of(member))
    assert {url for url, _ in side_bar} == {reverse(f"console:{name}") for name in GO_KEYS}
    assert re.findall(r'href="([^"]+)".*?<kbd>g</kbd> <kbd>(\w)</kbd>', html) == side_bar
    assert re.findall(r"<dt><kbd>g</kbd> <kbd>(\w)</kbd></dt>", home) == [key for _, key in side_bar]
    member.role("billing")
    assert set(re.findall(r'data-go="(\w)"', home_of(member))) == {"h", "c", "u", "b"}


def home_of(member: Member) -> str:
    return member.client.get("/console/").content.decode()


def test_what_is_found_is_bounded_and_so_is_its_cost(world: World, member: Member):
    counts = []
    for filled in ("few", "many"):
        for number in range(PER_KIND):
            world.adapter(member, name=f"spark-{filled}-{number}")
            member.key(f"spark {filled} {number}")
            customer = world.member("spark")
            Organisation.objects.filter(id=customer.org.id).update(name=f"Spark {number}")
        with CaptureQueriesContext(connection) as seen:
            assert len(found(member, "spark")["Adapters"]) == PER_KIND
        counts.append(len(seen))
        with CaptureQueriesContext(connection) as seen:
            assert len(found(world.operator, "spark")["Organisations"]) == PER_KIND
        counts.append(len(seen))
    # Session, user and membership; then one for each kind.
    assert counts == [7, 8, 7, 8]
    assert max(len(titles) for titles in found(member, "a").values()) <= PER_KIND


def test_what_is_typed_is_cut_and_shown_as_text(world: World, member: Member):
    html = html_of(member, "<b>x</b>" + "y" * 200)
    assert "&lt;b&gt;x&lt;/b&gt;yyy" in html and "<b>" not in html and "y" * 80 not in html
    assert 'data-said="Nothing found"' in html and "role=" not in html
    assert 'data-said="2 results"' in html_of(member, "spark")
    assert 'data-said="1 result"' in html_of(member, "sessions")


def test_the_page_works_without_scripts_and_is_kept_by_nobody(world: World, member: Member):
    reply = member.client.get(URL, {"q": "usage"})
    html = reply.content.decode()
    assert reply["Cache-Control"] == "no-store" and reply["Vary"].startswith("HX-Request")
    assert '<form class="palette-open" method="get" action="/console/search/"' in html
    main = html.split("<main")[1].split("</main>")[0]
    assert 'href="/console/usage/"' in main and 'value="usage"' in main
    assert 'role="option"' not in main and main.count("<h1") == 1


def test_a_page_of_another_organisation_and_a_stranger_are_told_so(world: World, member: Member, client):
    other = world.member("grace")
    Membership.objects.create(user=member.user, organisation=other.org, role="viewer")
    reply = member.client.get(URL, {"q": "a"}, headers=PALETTE | {"X-Kindling-Org": other.org.id})
    assert reply.status_code == 409 and f"This page was for {other.org.name}" in reply.content.decode()
    reply = client.get(
        URL, {"q": "a"}, headers=PALETTE | {"HX-Current-URL": "http://testserver/console/keys/"}
    )
    assert (reply.status_code, reply["HX-Redirect"]) == (204, "/accounts/login/?next=/console/keys/")


def test_every_place_has_its_icon_and_every_word_its_place(world: World):
    symbols = (Path(kindling_console.__file__).parent / "static/vendor/icons.svg").read_text()
    for title, icon, *_ in BEHIND:
        assert f'<symbol id="{icon}"' in symbols, title
    visitor = world.operator.client.get(URL).context["visitor"]()
    assert set(WORDS) <= {place.title for place in place_list(visitor)}
    assert [group.title for group in hit_groups(visitor, "")] == ["Pages"]
