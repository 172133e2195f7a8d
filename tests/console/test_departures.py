"""The pages of going: they ask who it is, say everything before, and do it once."""

import io
import re
import zipfile

import pytest
from django.test import Client
from django.urls import reverse

from kindling_billing.payments import payment_open, payment_received
from kindling_console_world import Member, World
from kindling_departures import PASSWORD, confirmed
from kindling_platform.accounts.models import Membership, Organisation, User
from kindling_platform.audit.models import AuditEvent
from kindling_platform.keys.services import key_create

pytestmark = pytest.mark.django_db
DATA, ACCOUNT = "/console/account/data/", "/console/account/delete/"
SETTINGS, ORGANISATION = "/console/settings/", "/console/settings/delete/"


def text_of(reply) -> str:
    return re.sub(r"\s+", " ", reply.content.decode())


def is_there(org: Organisation) -> bool:
    return Organisation.objects.get(id=org.id).deleting_at is None


def is_active(user: User) -> bool:
    return User.objects.get(id=user.id).is_active


def is_sent_to_confirm(reply, path: str) -> bool:
    return (
        reply.status_code == 302
        and reply["Location"] == f"/accounts/reauthenticate/?next={path.replace('/', '%2F')}"
    )


@pytest.mark.parametrize("path", [DATA, ACCOUNT, ORGANISATION])
def test_each_page_asks_first_who_it_is(member: Member, path: str):
    assert is_sent_to_confirm(member.client.get(path), path)
    form = {"confirm": member.org.slug if path == ORGANISATION else member.user.email}
    assert is_sent_to_confirm(member.client.post(path, form), path)
    assert is_there(member.org) and is_active(member.user)
    assert not AuditEvent.objects.filter(action="user.data_exported").exists()
    wrong = member.client.post(f"/accounts/reauthenticate/?next={path}", {"password": "wrong"})
    assert wrong.status_code == 200
    assert is_sent_to_confirm(member.client.get(path), path)
    reply = confirmed(member.user).get(path)
    assert reply.status_code == 200 and "<h1" in text_of(reply)


def test_a_form_that_was_sent_too_late_is_taken_once_it_is_confirmed(member: Member):
    member.user.set_password(PASSWORD)
    member.user.save()
    member.client.force_login(member.user)
    member.client.post(ORGANISATION, {"confirm": member.org.slug})
    assert is_there(member.org)
    reply = member.client.post(
        "/accounts/reauthenticate/", {"password": PASSWORD, "next": ORGANISATION}, follow=True
    )
    assert not is_there(member.org)
    assert "is deleted" in text_of(reply)


def test_ones_data_comes_as_a_zip(member: Member):
    client = confirmed(member.user)
    client.cookies["theme"] = "dark"
    reply = client.post(DATA)
    assert (reply["Content-Type"], reply["Cache-Control"]) == ("application/zip", "no-store")
    assert re.search(
        r'attachment; filename="kindling-data-\d{4}-\d\d-\d\d\.zip"', reply["Content-Disposition"]
    )
    with zipfile.ZipFile(io.BytesIO(reply.content)) as archive:
        assert member.user.email in archive.read("profile.json").decode()
        assert '"dark"' in archive.read("settings.json").decode()
    again = client.post(DATA, follow=True)
    assert "Wait a minute." in text_of(again)


def test_an_account_is_deleted_with_the_organisation_that_nobody_else_is_in(member: Member):
    client = confirmed(member.user)
    page = text_of(client.get(ACCOUNT))
    assert "You are alone in it, so it is deleted with you" in page and member.user.email in page
    wrong = client.post(ACCOUNT, {"confirm": "somebody@example.com"})
    assert wrong.status_code == 422 and 'id="id_confirm_error"' in text_of(wrong)
    assert is_active(member.user)
    reply = client.post(ACCOUNT, {"confirm": member.user.email})
    assert (reply.status_code, reply["Location"]) == (303, "/accounts/login/")
    assert "Your account is deleted." in text_of(client.get("/accounts/login/"))
    assert not is_active(member.user) and not is_there(member.org)
    assert client.get("/console/").status_code == 302


def test_the_only_owner_is_led_to_the_team(world: World, member: Member):
    other = world.member("grace")
    Membership.objects.create(user=other.user, organisation=member.org, role="developer")
    client = confirmed(member.user)
    page = text_of(client.get(ACCOUNT))
    assert "You are the only owner of" in page and 'disabled aria-describedby="barred"' in page
    assert reverse("console:team") in page
    reply = client.post(ACCOUNT, {"confirm": member.user.email})
    assert reply.status_code == 422 and "Make one of them an owner first." in text_of(reply)
    assert is_active(member.user)


def test_keys_are_kept_or_revoked_where_it_goes_on(world: World, member: Member):
    other = world.member("grace")
    Membership.objects.create(user=member.user, organisation=other.org, role="developer")
    key = key_create(org=other.org, name="ci", scopes=["inference"], actor=member.actor)[0]
    client = confirmed(member.user)
    assert "1 key that you made" in text_of(client.get(ACCOUNT))
    assert client.post(ACCOUNT, {"confirm": member.user.email, "keys": "keep"}).status_code == 303
    key.refresh_from_db()
    assert key.revoked_at is None
    # Where the key is listed, nobody's address stands beside it any more.
    page = text_of(other.client.get(reverse("console:keys")))
    assert "ci" in page and member.user.email not in page


def test_an_organisation_is_deleted_by_its_owner(member: Member):
    key = member.key()
    client = confirmed(member.user)
    assert ORGANISATION in text_of(client.get(SETTINGS))
    page = text_of(client.get(ORGANISATION))
    for link in ("usage", "requests", "activity-csv", "billing"):
        assert reverse(f"console:{link}") in page
    for typed in ("", member.org.name.upper() + "x"):
        assert client.post(ORGANISATION, {"confirm": typed}).status_code == 422
    assert is_there(member.org)
    reply = client.post(ORGANISATION, {"confirm": member.org.slug}, follow=True)
    assert f"{member.org.name} is deleted." in text_of(reply)
    assert not is_there(member.org)
    own = Membership.objects.get(user=member.user).organisation
    assert own.id != member.org.id and own.slug in text_of(reply)
    assert client.get(reverse("console:key-revoke", args=[key.id])).status_code == 404


@pytest.mark.parametrize("role", ["admin", "developer", "viewer", "billing"])
def test_others_see_why_they_cannot(member: Member, role: str):
    member.role(role)
    client = confirmed(member.user)
    page = text_of(client.get(SETTINGS))
    assert "Owners can do this." in page and ORGANISATION not in page
    assert client.get(ORGANISATION).status_code == 403
    assert client.post(ORGANISATION, {"confirm": member.org.slug}).status_code == 403
    assert is_there(member.org)


def test_what_has_to_be_done_before_is_said_and_money_is_given_up_by_a_tick(member: Member):
    payment_received(intent_id="pi_1", owner_id=member.org.id, amount_cents=1234)
    payment = payment_open(owner_id=member.org.id, purpose="auto_topup", amount_cents=500)
    client = confirmed(member.user)
    page = text_of(client.get(ORGANISATION))
    assert "A top-up is under way" in page and "disabled" in page
    payment.state = "failed"
    payment.save()
    page = text_of(client.get(ORGANISATION))
    box = re.search(r'name="give_up" value="([^"]+)"', page)
    assert box and "I give up the $12.34" in page and "disabled" not in page
    unticked = client.post(ORGANISATION, {"confirm": member.org.slug})
    assert unticked.status_code == 422 and "$12.34 that was paid in is left" in text_of(unticked)
    # A box of another organisation, or of another sum, is none.
    for value in ("org_" + "0" * 26 + ":1234", f"{member.org.id}:1233", f"{member.org.id}:", "x"):
        assert client.post(ORGANISATION, {"confirm": member.org.slug, "give_up": value}).status_code == 422
    assert is_there(member.org)
    assert client.post(ORGANISATION, {"confirm": member.org.slug, "give_up": box[1]}).status_code == 303
    assert not is_there(member.org)


def test_a_page_of_another_organisation_deletes_nothing(world: World, member: Member):
    other = world.member("grace")
    Membership.objects.create(user=member.user, organisation=other.org, role="owner")
    client = confirmed(member.user)
    reply = client.post(ORGANISATION, {"confirm": member.org.slug, "kindling_org": other.org.id})
    assert reply.status_code == 409
    assert is_there(member.org) and is_there(other.org)


def test_the_operators_own_has_no_button(world: World):
    page = text_of(world.operator.client.get(SETTINGS))
    assert "The operator's own organisation cannot be deleted" in page and ORGANISATION not in page
    client = confirmed(world.operator.user)
    assert client.post(ORGANISATION, {"confirm": world.operator.org.slug}).status_code == 422
    assert is_there(world.operator.org)
    assert client.post(ACCOUNT, {"confirm": world.operator.user.email}).status_code == 422
    assert is_active(world.operator.user)


def test_the_operator_sees_it_as_deleted(world: World, member: Member):
    confirmed(member.user).post(ORGANISATION, {"confirm": member.org.slug})
    listed = text_of(world.operator.client.get(reverse("console:operator-organisations")))
    assert '<span class="tag">being deleted</span>' in listed
    url = reverse("console:operator-organisation", args=[member.org.id])
    page = text_of(world.operator.client.get(url))
    assert "An owner has deleted it" in page and "Let it go on" not in page and 'id="suspension"' not in page
    world.operator.client.post(
        reverse("console:operator-suspension", args=[member.org.id]), {"do": "resume", "reason": "Back"}
    )
    assert not is_there(member.org)


def test_a_deleted_user_is_asked_to_sign_in_everywhere(member: Member):
    other = Client()
    other.force_login(member.user)
    confirmed(member.user).post(ACCOUNT, {"confirm": member.user.email})
    for path in ("/console/", DATA, ACCOUNT, ORGANISATION):
        reply = other.get(path)
        assert reply.status_code == 302 and reply["Location"].startswith("/accounts/login/"), path
