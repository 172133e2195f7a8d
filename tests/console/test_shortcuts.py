"""Single keys can be switched off, for a person and on every page; what the page needs for them is there."""

import re
from pathlib import Path

import pytest

import kindling_console
from kindling_console_world import Member, World
from kindling_platform.accounts.models import Membership, User
from kindling_platform.audit.models import AuditEvent

URL = "/console/account/"
STATIC = Path(kindling_console.__file__).parent / "static/console"
OFF = 'data-shortcuts="off"'


def switch(member: Member, **fields: str):
    return member.client.post(URL, {"do": "shortcuts"} | fields)


def page(member: Member, path: str = "") -> str:
    return member.client.get(f"/console/{path}").content.decode()


def test_they_are_on_until_somebody_switches_them_off(member: Member):
    assert OFF not in page(member)
    reply = switch(member)
    assert (reply.status_code, reply["Location"]) == (303, URL)
    assert not User.objects.get(id=member.user.id).shortcuts
    assert "Single-key shortcuts are off." in page(member, "account/")
    for path in ("", "keys/", "search/"):
        assert OFF in page(member, path), path
    assert "Switch them on" in page(member) and "Single keys are switched off for you" in page(member)
    # Their hints go with them.
    reply = member.client.get("/console/search/", headers={"HX-Request": "true"})
    assert "API keys" in reply.content.decode() and "<kbd>" not in reply.content.decode()

    switch(member, shortcuts="on")
    assert OFF not in page(member) and "Switch them off" in page(member)
    events = AuditEvent.objects.filter(action="user.shortcuts_set").order_by("created_at", "id")
    assert [event.data["after"]["shortcuts"] for event in events] == [False, True]
    assert {event.actor_label for event in events} == {member.user.email}
    switch(member, shortcuts="on")
    assert events.count() == 2


def test_it_is_the_persons_own_whatever_they_may_do_where(world: World, member: Member):
    other = world.member("grace")
    switch(member)
    assert OFF not in page(other)
    Membership.objects.create(user=member.user, organisation=other.org, role="viewer")
    member.client.post("/console/organisation/", {"organisation": other.org.id})
    assert OFF in page(member)
    # The page of the account is of no organisation, and a name is kept as it was.
    User.objects.filter(id=member.user.id).update(name="Ada")
    assert switch(member, shortcuts="on", kindling_org=member.org.id).status_code == 303
    found = User.objects.get(id=member.user.id)
    assert (found.shortcuts, found.name) == (True, "Ada")


def test_a_name_that_is_refused_leaves_them_as_they_are(member: Member):
    switch(member)
    assert member.client.post(URL, {"name": "x" * 81, "shortcuts": "on"}).status_code == 422
    assert not User.objects.get(id=member.user.id).shortcuts


def test_strangers_switch_nothing(client, member: Member):
    assert client.post(URL, {"do": "shortcuts"}).status_code == 302
    assert User.objects.get(id=member.user.id).shortcuts


@pytest.mark.parametrize("path", ["", "keys/", "account/", "search/"])
def test_every_page_has_the_palette_the_list_and_their_scripts(member: Member, path: str):
    html = page(member, path)
    for script in ("shortcuts", "palette"):
        assert re.search(rf'<script src="/static/console/{script}\.js\?v=\w+" type="module">', html), script
    assert html.count('<dialog class="dialog palette" id="palette"') == 1
    assert html.count('id="keyboard-help"') == 1
    assert f'data-org="{member.org.id}"' in html


def test_who_may_not_make_a_key_has_nothing_to_make(member: Member):
    assert page(member, "keys/").count("data-new") == page(member, "team/").count("data-new") == 1
    member.role("viewer")
    for path in ("keys/", "team/", "adapters/"):
        assert "data-new" not in page(member, path), path


def test_scripts_stay_small():
    for name in ("shortcuts.js", "palette.js", "console.js"):
        lines = (STATIC / name).read_text().splitlines()
        assert len(lines) <= 400 and max(len(line) for line in lines) < 200, name
