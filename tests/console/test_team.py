"""The team's pages: inviting, joining, changing roles, leaving, and changing between organisations."""

import re

import pytest
from django.core import mail
from django.test import Client
from django.urls import reverse

from kindling_console_world import Member, World
from kindling_platform.accounts.models import Invitation, Membership
from kindling_platform.keys.models import ApiKey

pytestmark = pytest.mark.django_db
HTMX = {"HX-Request": "true"}


def text_of(client: Client, url: str, **asked: object) -> str:
    reply = client.get(url, **asked)
    assert reply.status_code == 200, reply
    return re.sub(r"\s+", " ", reply.content.decode())


def invite(member: Member, email: str, role: str = "developer", **asked: object):
    return member.client.post(reverse("console:team"), {"email": email, "role": role}, **asked)


def link_of(reply) -> str:
    found = re.search(r"/console/join/[\w-]+/", reply.content.decode())
    assert found, reply.content
    return found[0]


def join(member: Member, who: Member, role: str = "developer") -> None:
    assert who.client.post(link_of(invite(member, who.user.email, role))).status_code == 303


def toasts(client: Client, url: str) -> str:
    return " ".join(re.findall(r"<div>(.*?)</div>", text_of(client, url)))


def test_the_link_is_shown_once_and_sent(member: Member, settings):
    settings.EMAIL_FILE_PATH = None  # as with a mail server
    reply = invite(member, "new@example.com", headers=HTMX)
    assert (reply.status_code, reply["Cache-Control"]) == (200, "no-store")
    assert b"<dialog" in reply.content and b"A letter with this link is on its way" in reply.content
    (letter,) = mail.outbox
    assert link_of(reply) in letter.body
    page = text_of(member.client, reverse("console:team"))
    assert "new@example.com" in page and "/console/join/" not in page


def test_without_script_or_mail_server_the_link_has_a_page(member: Member):
    whole = invite(member, "other@example.com")
    assert b"<html" in whole.content and link_of(whole)
    assert b"No mail server has taken a letter" in whole.content


def test_a_refused_invitation_says_why_beside_its_field(member: Member):
    for asked, said in (
        (("nobody",), "valid email"), ((member.user.email,), "is a member already"),
        (("a@b.example", "king"), "Select a valid"),
    ):  # fmt: skip
        reply = invite(member, *asked, headers=HTMX)
        assert reply.status_code == 422 and said in reply.content.decode(), asked
    assert not Invitation.objects.exists()


def test_joining_leads_into_the_organisation_and_back(world: World, member: Member):
    grace = world.member("grace")
    link = link_of(invite(member, grace.user.email, "viewer"))
    page = text_of(grace.client, link)
    assert f"Join {member.org.name}" in page and "as viewer" in page
    assert "Change the organisation" not in text_of(grace.client, reverse("console:home"))
    assert grace.client.post(link)["Location"] == reverse("console:home")
    assert f"You work in {member.org.name} now" in toasts(grace.client, reverse("console:home"))
    # A viewer there, an owner at home.
    assert grace.client.post(reverse("console:keys"), {"name": "x", "scopes": ["read"]}).status_code == 403
    assert f'value="{grace.org.id}"' in text_of(grace.client, reverse("console:home"))
    changed = grace.client.post(reverse("console:organisation-change"), {"organisation": grace.org.id})
    assert changed.status_code == 303
    assert grace.client.post(reverse("console:keys"), {"name": "x", "scopes": ["read"]}).status_code == 200
    assert ApiKey.objects.get(name="x").organisation_id == grace.org.id


def test_nobody_changes_to_an_organisation_of_others(world: World, member: Member):
    grace = world.member("grace")
    for wanted in (grace.org.id, "", "org_of_nobody"):
        reply = member.client.post(reverse("console:organisation-change"), {"organisation": wanted})
        assert reply.status_code == 404
    assert grace.org.name not in text_of(member.client, reverse("console:home"))


def test_a_link_says_to_strangers_whom_it_is_for(world: World, member: Member, client: Client):
    link = link_of(invite(member, "new@example.com"))
    out = text_of(client, link)
    assert f"/accounts/signup/?next={link}" in out and "Sign in to accept" in out
    assert client.post(link)["Location"] == f"/accounts/login/?next={link}"
    grace = world.member("grace")
    assert "You are signed in as" in text_of(grace.client, link)
    refused = grace.client.post(link)
    assert refused.status_code == 403 and "This invitation is for new@example.com" in refused.content.decode()
    assert not Membership.objects.filter(organisation=member.org, user=grace.user).exists()
    assert client.get("/console/join/never-made/").status_code == 404


def test_signing_up_from_the_link_leads_back_to_it(member: Member, client: Client):
    link = link_of(invite(member, "new@example.com"))
    password = "correct horse battery staple 7"
    asked = {"email": "new@example.com", "password1": password, "password2": password, "next": link}
    assert client.post("/accounts/signup/", asked)["Location"] == link
    assert client.post(link).status_code == 303
    assert Membership.objects.get(organisation=member.org, user__email="new@example.com").role == "developer"


def test_a_withdrawn_link_is_over(world: World, member: Member):
    grace = world.member("grace")
    link = link_of(invite(member, grace.user.email))
    (row,) = Invitation.objects.all()
    member.client.post(reverse("console:invitation-withdrawn", args=[row.id]))
    assert "Withdraw" not in text_of(member.client, reverse("console:team"))
    over = grace.client.get(link)
    assert over.status_code == 410 and b"does not hold any more" in over.content


def test_a_role_is_changed_and_the_last_owner_stays(world: World, member: Member):
    grace = world.member("grace")
    join(member, grace)
    url = reverse("console:member", args=[grace.user.id])
    assert 'value="developer" required checked' in text_of(member.client, url)
    assert member.client.post(url, {"role": "admin"}).status_code == 303
    assert Membership.objects.get(organisation=member.org, user=grace.user).role == "admin"
    own = reverse("console:member", args=[member.user.id])
    refused = member.client.post(own, {"role": "viewer"})
    assert refused.status_code == 422 and b"is the only owner" in refused.content
    # An admin makes nobody an owner, and is not offered it.
    assert 'value="owner"' not in text_of(grace.client, url)
    assert grace.client.post(url, {"role": "owner"}).status_code == 422
    assert grace.client.post(reverse("console:member-removed", args=[member.user.id])).status_code == 303
    assert Membership.objects.filter(organisation=member.org, user=member.user).exists()


def test_who_is_removed_is_out_at_once(world: World, member: Member):
    grace = world.member("grace")
    join(member, grace)
    assert (
        grace.client.post(reverse("console:keys"), {"name": "theirs", "scopes": ["read"]}).status_code == 200
    )
    url = reverse("console:member", args=[grace.user.id])
    assert "theirs" in text_of(member.client, url)
    member.client.post(reverse("console:member-removed", args=[grace.user.id]), {"keys": "revoke"})
    assert "and 1 API key with them" in toasts(member.client, reverse("console:team"))
    assert ApiKey.objects.get(name="theirs").revoked_at is not None
    assert member.org.name not in text_of(grace.client, reverse("console:team"))


def test_everybody_may_leave_but_the_last_owner(world: World, member: Member):
    grace = world.member("grace")
    join(member, grace, "viewer")
    page = text_of(grace.client, reverse("console:leave"))
    assert f"Leave {member.org.name}?" in page and 'id="stays"' not in page and " disabled" not in page
    grace.client.post(reverse("console:leave"), {"keys": "keep"})
    assert f"You have left {member.org.name}" in toasts(grace.client, reverse("console:home"))
    for url in (reverse("console:leave"), reverse("console:member", args=[member.user.id])):
        page = text_of(member.client, url)
        assert 'class="btn btn-danger" disabled aria-describedby="stays">Leave' in page
        assert f'<p id="stays">{member.user.email} is the only owner.' in page
    member.client.post(reverse("console:leave"))
    assert "is the only owner" in toasts(member.client, reverse("console:leave"))
    assert Membership.objects.filter(organisation=member.org, user=member.user).exists()


def test_a_developer_sees_the_team_and_no_button(world: World, member: Member):
    member.role("developer")
    page = text_of(member.client, reverse("console:team"))
    assert "Invite somebody" not in page and "What each role may do" in page
    assert invite(member, "new@example.com").status_code == 403
    assert member.client.get(reverse("console:member", args=[member.user.id])).status_code == 403


def test_what_happened_is_told_in_words(world: World, member: Member):
    grace = world.member("grace")
    join(member, grace)
    member.client.post(reverse("console:member", args=[grace.user.id]), {"role": "viewer"})
    member.client.post(reverse("console:member-removed", args=[grace.user.id]))
    page = text_of(member.client, reverse("console:activity") + "?kind=members")
    for said in ("Somebody invited", "Member joined", "Role changed", "Member removed"):
        assert said in page
