"""The operator sees the console as a member does: announced, for a while, without changes, as no other operator."""

import re
from datetime import timedelta

import pytest
from django.test import Client
from django.urls import reverse

from kindling_console_world import Member, World, request_keep
from kindling_departures import confirmed
from kindling_platform.accounts.models import Membership, Seeing, User
from kindling_platform.accounts.seeing import seeings_expire
from kindling_platform.audit.models import AuditEvent
from kindling_platform.common.clock import now
from kindling_platform.keys.models import ApiKey

REASON = "Ticket 17: the usage page looks empty."


def page(client: Client, url: str = "/console/") -> str:
    reply = client.get(url)
    assert reply.status_code == 200, (reply.status_code, reply.content)
    return re.sub(r"\s+", " ", reply.content.decode())


def see_as(member: Member) -> str:
    return reverse("console:operator-seeing", args=[member.org.id, member.user.id])


@pytest.fixture
def till(world: World) -> Client:
    """The operator's browser, which has just confirmed that it is them."""
    return confirmed(world.operator.user)


@pytest.fixture
def seen(till: Client, member: Member) -> Seeing:
    reply = till.post(see_as(member), {"reason": REASON})
    assert (reply.status_code, reply["Location"]) == (303, "/console/")
    return Seeing.objects.get()


def test_it_is_asked_for_with_a_reason_and_a_confirmation(world: World, till: Client, member: Member):
    assert f'href="{see_as(member)}"' in page(
        till, reverse("console:operator-organisation", args=[member.org.id])
    )
    assert "for 30 minutes at most" in page(till, see_as(member))
    assert till.post(see_as(member), {"reason": "  "}).status_code == 422
    # A session that has confirmed nothing is asked first.
    other = Client()
    other.force_login(world.operator.user)
    stale = other.post(see_as(member), {"reason": REASON})
    assert stale.status_code == 302 and "reauthenticate" in stale["Location"]
    assert member.client.get(see_as(member)).status_code == 403
    assert not Seeing.objects.exists()


def test_every_page_says_so_until_it_is_ended(till: Client, member: Member, seen: Seeing):
    for url in ("/console/", "/console/usage/", "/console/billing/", "/console/keys/", "/console/team/"):
        shown = page(till, url)
        assert f"You see this as {member.user.email}" in shown and member.org.name in shown, url
        assert "operator@example.com, look since" in shown and "End it" in shown
        assert "/console/operator/organisations/" not in shown.split("<main")[0]
    assert till.get("/console/operator/organisations/").status_code == 403
    assert "You see this as" not in page(member.client)
    reply = till.post(reverse("console:seeing-end"), {"kindling_org": member.org.id})
    assert reply["Location"] == reverse("console:operator-organisation", args=[member.org.id])
    assert "You see this as" not in page(till) and "operator@example.com" in page(till)
    assert till.post(reverse("console:seeing-end")).status_code == 303


def test_its_owners_read_of_it_and_of_the_operator_no_name(till: Client, member: Member, seen: Seeing):
    till.post(reverse("console:seeing-end"))
    log = page(member.client, "/console/settings/activity/?kind=members")
    assert "The operator began to look as a member" in log and "The operator looks no more" in log
    assert REASON in log and "operator@example.com" not in log
    begun, ended = AuditEvent.objects.filter(action__startswith="seeing.").order_by("created_at", "id")
    assert (begun.actor_label, ended.actor_label) == ("operator@example.com", "operator@example.com")
    assert (begun.organisation_id, ended.data["why"]) == (member.org.id, "ended by hand")
    assert "seeing.begun" in page(till, "/console/operator/audit/?action=seeing")


def test_nothing_is_changed_by_form_api_or_administration(till: Client, member: Member, seen: Seeing):
    key = member.key()
    for url in (
        "/console/keys/", "/console/settings/", "/console/playground/run/", "/console/theme/",
        reverse("console:key-revoke", args=[key.id]), "/accounts/password/change/", "/admin/",
        reverse("console:operator-suspension", args=[member.org.id]), see_as(member),
    ):  # fmt: skip
        reply = till.post(url, {"name": "x", "scopes": ["inference"]})
        assert reply.status_code == 403 and "nothing can be changed" in reply.content.decode(), url
    part = till.post("/console/keys/", {"name": "x"}, headers={"HX-Request": "true"})
    assert part.status_code == 403 and "<html" not in part.content.decode()
    for method, path in (("post", "keys"), ("delete", f"keys/{key.id}"), ("patch", "request-log")):
        reply = getattr(till, method)(f"/api/v1/{path}", "{}", content_type="application/json")
        assert (reply.status_code, reply.json()["error"]["code"]) == (403, "only_looking"), path
    assert ApiKey.objects.get().revoked_at is None
    # One's own pages are not that person's; a key speaks for itself.
    for url in ("/accounts/email/", "/admin/", "/console/account/"):
        assert till.get(url).status_code == 403, url
    keyed = till.post(
        "/api/v1/keys", "{}", headers={"Authorization": "Bearer kd_no"}, content_type="application/json"
    )
    assert keyed.json()["error"]["code"] == "invalid_api_key"


def test_reads_of_the_api_are_that_members_and_prompts_stay_hidden(
    till: Client, member: Member, seen: Seeing
):
    kept = request_keep(member)
    rows = till.get("/api/v1/members").json()["data"]
    assert [row["email"] for row in rows] == [member.user.email]
    assert till.get("/api/v1/operator/organisations").status_code == 404
    for url in (
        "/console/usage/requests/log/",
        f"/console/usage/requests/{kept.request_id}/log/",
        "/console/playground/",
    ):
        assert member.client.get(url).status_code == 200 and till.get(url).status_code == 403, url
    refused = till.get(f"/api/v1/requests/{kept.request_id}/log")
    assert refused.status_code in (403, 404) and "messages" not in refused.content.decode()


def test_it_ends_with_its_time(till: Client, member: Member, seen: Seeing):
    Seeing.objects.update(ends_at=now() - timedelta(seconds=1))
    assert (
        "You see this as" not in page(till)
        and till.get("/console/operator/organisations/").status_code == 200
    )
    assert AuditEvent.objects.get(action="seeing.ended").data["why"] == "its time was over"
    # Nobody comes back: a worker ends it.
    till.post(see_as(member), {"reason": REASON})
    Seeing.objects.filter(ended_at=None).update(ends_at=now() - timedelta(hours=2))
    assert (seeings_expire(), seeings_expire()) == (1, 0)
    assert AuditEvent.objects.filter(action="seeing.ended").count() == 2


@pytest.mark.parametrize("change", ["operators password", "members password", "role", "membership"])
def test_it_ends_with_what_it_stands_on(
    world: World, till: Client, member: Member, seen: Seeing, change: str
):
    if change == "operators password":
        world.operator.user.set_password("another horse battery 8")
        world.operator.user.save()
    elif change == "members password":
        user = User.objects.get(id=member.user.id)
        user.set_password("another horse battery 8")
        user.save()
    elif change == "role":
        Membership.objects.filter(user=world.operator.user).update(role="developer")
    else:
        Membership.objects.filter(user=member.user).delete()
    reply = till.get("/console/")
    # Whoever changes their password elsewhere is signed out here; nobody else is.
    assert reply.status_code == (302 if change == "operators password" else 200)
    assert "You see this as" not in reply.content.decode()
    if change != "operators password":
        assert Seeing.objects.get().ended_at is not None
        assert "a password, a role" in AuditEvent.objects.get(action="seeing.ended").data["why"]


def test_signing_out_ends_it(till: Client, seen: Seeing):
    assert till.post("/accounts/logout/").status_code == 302
    assert Seeing.objects.get().ended_at is not None
    assert till.get("/console/").status_code == 302


def test_nobody_is_another_operator_or_superuser(world: World, till: Client, member: Member):
    colleague, chief = world.member("colleague"), world.member("chief")
    Membership.objects.create(user=colleague.user, organisation=world.operator.org, role="viewer")
    User.objects.filter(id=chief.user.id).update(is_superuser=True)
    for target in (colleague, chief, world.operator):
        assert "Nobody sees the console as" in page(till, see_as(target))
        assert till.post(see_as(target), {"reason": REASON}).status_code == 422
    elsewhere = reverse("console:operator-seeing", args=[member.org.id, colleague.user.id])
    assert till.post(elsewhere, {"reason": REASON}).status_code == 404
    assert not Seeing.objects.exists()
    # Who becomes one meanwhile is looked through no more.
    till.post(see_as(member), {"reason": REASON})
    Membership.objects.create(user=member.user, organisation=world.operator.org, role="viewer")
    assert "You see this as" not in page(till)
