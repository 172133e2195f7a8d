"""An organisation asks a second factor of everybody: whoever has none is led to it, and others notice nothing."""

import re

import pytest
from allauth.mfa.models import Authenticator
from allauth.mfa.recovery_codes.internal.auth import RecoveryCodes
from allauth.mfa.totp.internal.auth import (
    TOTP,
    format_hotp_value,
    generate_totp_secret,
    hotp_value,
    yield_hotp_counters_from_time,
)
from django.core.cache import cache
from django.test import Client

from kindling_console_world import Member, World, sign_in
from kindling_departures import PASSWORD
from kindling_platform.accounts.invitations import invitation_create
from kindling_platform.accounts.models import Membership, Organisation, User
from kindling_platform.accounts.second_factors import mfa_required_set
from kindling_platform.audit.models import AuditEvent
from kindling_platform.keys.models import ApiKey
from kindling_platform.keys.services import key_create

pytestmark = pytest.mark.django_db
TEAM, SWITCH = "/console/team/", "/console/team/second-factor/"
ADD, KEYS = "/console/account/second-factor/", "/console/keys/"
NEW = {"name": "stolen", "scopes": ["inference"]}


def text_of(reply) -> str:
    return re.sub(r"\s+", " ", reply.content.decode())


def secured(user: User) -> None:
    TOTP.activate(user, generate_totp_secret())


def is_required(member: Member) -> bool:
    return Organisation.objects.get(id=member.org.id).mfa_required


def friend_of(world: World, member: Member, role: str = "developer") -> Member:
    """Somebody with an organisation of their own who works in the member's now."""
    friend = world.member("bob")
    Membership.objects.create(user=friend.user, organisation=member.org, role=role)
    friend.client.post("/console/organisation/", {"organisation": member.org.id})
    return friend


def required(member: Member) -> None:
    secured(member.user)
    mfa_required_set(org=member.org, required=True, person_id=member.user.id, actor=member.actor)


def test_it_is_switched_on_by_somebody_who_has_one(world: World, member: Member):
    friend = friend_of(world, member, "admin")
    html = text_of(member.client.get(TEAM))
    assert html.count('is-ember">none') == 2 and "2 members have none" in html and "disabled" in html
    assert "You have none yourself" in text_of(member.client.post(SWITCH, {"required": "on"}, follow=True))
    # Codes for a lost phone are no factor.
    RecoveryCodes.activate(friend.user)
    assert "You have none yourself" in text_of(friend.client.post(SWITCH, {"required": "on"}, follow=True))
    assert not is_required(member)

    secured(member.user)
    html = text_of(member.client.get(TEAM))
    assert (
        html.count('is-ember">none') == 1
        and "1 member has none" in html
        and "disabled" not in html.split("<main")[1]
    )
    for _ in range(2):
        assert member.client.post(SWITCH, {"required": "on"})["Location"] == f"{TEAM}#second-factor"
    assert "Everybody needs one" in text_of(member.client.get(TEAM))
    event = AuditEvent.objects.get(action="organisation.mfa_required_set")
    assert (event.organisation_id, event.actor_id) == (member.org.id, member.user.id)
    assert event.data == {"before": {"mfa_required": False}, "after": {"mfa_required": True}}
    assert "Second factor for everybody switched" in text_of(member.client.get("/console/settings/activity/"))
    member.client.post(SWITCH, {"required": "off"})
    assert not is_required(member)


def test_who_may_not_manage_the_team_neither_sees_nor_switches(world: World, member: Member):
    secured(member.user)
    member.role("viewer")
    html = text_of(member.client.get(TEAM))
    assert "second factor" not in html.lower().split("<main")[1]
    assert member.client.post(SWITCH, {"required": "on"}).status_code == 403
    assert not is_required(member)


def test_whoever_has_none_is_led_to_it_and_changes_nothing(world: World, member: Member):
    friend = friend_of(world, member, "owner")
    own = friend.org
    key_create(org=member.org, name="k", scopes=["inference"], actor=friend.actor)
    required(member)
    for path in (
        "/console/",
        "/console/usage/?range=7d",
        "/console/usage/usage.csv",
        "/console/live/",
        TEAM,
        KEYS,
    ):
        reply = friend.client.get(path)
        assert reply.status_code == 302 and reply["Location"].startswith(f"{ADD}?next=%2Fconsole%2F"), path
    part = friend.client.get(
        "/console/live/", headers={"HX-Request": "true", "HX-Current-URL": f"http://testserver{KEYS}"}
    )
    assert (part.status_code, part["HX-Redirect"]) == (204, f"{ADD}?next=%2Fconsole%2Fkeys%2F")
    for path in (KEYS, SWITCH, TEAM, "/console/limits/", "/console/settings/"):
        for headers in ({}, {"HX-Request": "true"}):
            reply = friend.client.post(path, NEW, headers=headers)
            assert reply.status_code == 403 and "Add a second factor first" in text_of(reply), path
    asked = friend.client.post("/console/playground/run/", {"messages": []}, "application/json")
    assert (asked.status_code, asked.json()["error"]["code"]) == (403, "mfa_required")
    assert is_required(member) and not ApiKey.objects.filter(name="stolen").exists()

    html = text_of(friend.client.get(f"{ADD}?next={KEYS}"))
    assert (
        "asks it of everybody" in html and "API keys go on working" in html and f"Work in {own.name}" in html
    )
    assert "/accounts/2fa/webauthn/add/" in html and "/accounts/2fa/totp/activate/" in html
    # The frame tells nothing of the organisation either.
    assert "balance-pill" not in html and ">Billing<" not in html
    for path in ("/console/account/", "/console/account/delete/", "/console/team/leave/", "/accounts/2fa/"):
        assert friend.client.get(path).status_code in {200, 302}, path
        assert ADD not in friend.client.get(path).get("Location", "")
    # What belongs to others is as before.
    assert member.client.get(KEYS).status_code == 200
    assert friend.client.post("/console/organisation/", {"organisation": own.id})["Location"] == "/console/"
    assert friend.client.get(KEYS).status_code == 200
    friend.client.post("/console/organisation/", {"organisation": member.org.id})
    assert friend.client.post("/console/team/leave/").status_code == 303
    assert not Membership.objects.filter(user=friend.user, organisation=member.org).exists()


def test_the_api_refuses_the_session_and_takes_the_key(world: World, member: Member):
    friend = friend_of(world, member, "admin")
    text = key_create(org=member.org, name="k", scopes=["read"], actor=friend.actor)[1]
    required(member)
    for call in (
        friend.client.get("/api/v1/me"),
        friend.client.post("/api/v1/keys", NEW, "application/json"),
    ):
        assert (call.status_code, call.json()["error"]["code"]) == (403, "mfa_required")
    asked = Client().get("/api/v1/me", headers={"Authorization": f"Bearer {text}"})
    assert (asked.status_code, asked.json()["organisation"]["mfa_required"]) == (200, True)


def test_it_is_switched_over_the_api_too(world: World, member: Member):
    friend = friend_of(world, member, "developer")
    text = key_create(org=member.org, name="k", scopes=["read", "manage"], actor=member.actor)[1]
    url, on, json = "/api/v1/organisation", {"mfa_required": True}, "application/json"
    key = {"Authorization": f"Bearer {text}"}
    asked = [Client().patch(url, on, json, headers=key), member.client.patch(url, on, json)]
    assert [(one.status_code, one.json()["error"]["code"]) for one in asked] == [(409, "mfa_missing")] * 2
    secured(friend.user)
    assert friend.client.patch(url, on, json).json()["error"]["code"] == "role_insufficient"
    secured(member.user)
    assert member.client.patch(url, on | {"name": "Two"}, json).status_code == 422
    assert not is_required(member)
    told = Client().patch(url, on, json, headers=key)
    assert (told.status_code, told.json()["id"], told.json()["mfa_required"]) == (200, member.org.id, True)
    assert is_required(member) and not is_required(friend)
    assert member.client.patch(url, {"mfa_required": False}, json).json()["mfa_required"] is False


def test_an_app_opens_the_way_back_and_its_removal_closes_it(world: World, member: Member):
    cache.clear()
    friend = friend_of(world, member)
    friend.user.set_password(PASSWORD)
    friend.user.save()
    friend.client.force_login(friend.user)
    friend.client.post("/console/organisation/", {"organisation": member.org.id})
    required(member)
    friend.client.get(friend.client.get(KEYS)["Location"])
    assert "go on to where" not in text_of(friend.client.get("/accounts/2fa/"))
    friend.client.post("/accounts/reauthenticate/", {"password": PASSWORD})
    page = friend.client.get("/accounts/2fa/totp/activate/").content.decode()
    secret = re.search(r'id="authenticator_secret"[^>]*value="([A-Z2-7]+)"', page)
    assert secret, page
    code = format_hotp_value(hotp_value(secret[1], next(iter(yield_hotp_counters_from_time()))))
    done = friend.client.post("/accounts/2fa/totp/activate/", {"code": code}, follow=True)
    assert "go on to where you wanted to be" in text_of(done)
    assert friend.client.get(ADD)["Location"] == KEYS
    assert friend.client.get(KEYS).status_code == 200
    assert "go on to where" not in text_of(friend.client.get("/accounts/2fa/"))
    assert "asks a second factor of everybody" in text_of(friend.client.get("/accounts/2fa/totp/deactivate/"))
    friend.client.post("/accounts/2fa/totp/deactivate/")
    assert not Authenticator.objects.filter(user=friend.user, type="totp").exists()
    assert friend.client.get(KEYS)["Location"].startswith(ADD)


@pytest.mark.parametrize("wanted", ["https://evil.example/", "//evil.example/", ADD, ""])
def test_the_way_back_stays_here(world: World, member: Member, wanted: str):
    friend = friend_of(world, member)
    required(member)
    assert friend.client.get(ADD, {"next": wanted}).status_code == 200
    secured(friend.user)
    # The front door leads to the console.
    assert friend.client.get(ADD)["Location"] in {"/", "/console/"}


def test_whoever_joins_by_an_invitation_is_led_to_it(world: World, member: Member):
    required(member)
    new = world.member("new")
    _, text = invitation_create(org=member.org, email=new.user.email, role="developer", actor=member.actor)
    reply = new.client.post(f"/console/join/{text}/", follow=True)
    assert reply.redirect_chain[-1][0].startswith(ADD) and "asks it of everybody" in text_of(reply)


def test_the_operator_needs_one_in_the_administration_too(world: World):
    operator = world.operator
    Organisation.objects.filter(id=operator.org.id).update(mfa_required=True)
    reply = operator.client.get("/admin/")
    assert reply.status_code == 403 and "Add a second factor first" in text_of(reply)
    secured(operator.user)
    assert operator.client.get("/admin/").status_code == 200


def test_the_operator_looks_as_a_member_who_has_none(world: World, member: Member):
    Organisation.objects.filter(id=member.org.id).update(mfa_required=True)
    cache.clear()
    world.operator.user.set_password(PASSWORD)
    world.operator.user.save()
    till = sign_in(world.operator.user).client
    till.post("/accounts/reauthenticate/", {"password": PASSWORD})
    see = f"/console/operator/organisations/{member.org.id}/see-as/{member.user.id}/"
    assert till.post(see, {"reason": "They asked."}).status_code == 303
    assert till.get(KEYS).status_code == 200
    assert till.get("/api/v1/me").json()["organisation"]["id"] == member.org.id
    assert member.client.get(KEYS).status_code == 302
