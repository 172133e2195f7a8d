"""Invitations and members over the API: links shown once, letters sent, roles set, members removed."""

import re
from pathlib import Path

import pytest
from django.core import mail
from django.core.mail.backends.locmem import EmailBackend

from kindling_people import Customer
from kindling_platform.accounts.invitations import invitation_accept
from kindling_platform.accounts.models import Invitation, Membership
from kindling_platform.common.kept_mail import kept_list

pytestmark = pytest.mark.django_db


def code_of(reply) -> tuple[int, str]:
    return reply.status_code, reply.json()["error"]["code"]


def test_an_invitation_from_the_letter_to_the_member(ada: Customer, bob: Customer, settings):
    settings.EMAIL_FILE_PATH = None  # as with a mail server
    client = ada.client()
    reply = client.call("post", "invitations", {"email": bob.user.email, "role": "viewer"})
    made = reply.json()
    assert (reply.status_code, reply["Cache-Control"], made["was_sent"]) == (201, "no-store", True)
    (letter,) = mail.outbox
    assert letter.to == [bob.user.email]
    assert made["url"] in letter.body and ada.org.name in letter.subject
    (listed,) = client.call("get", "invitations").json()["data"]
    assert listed == {key: made[key] for key in listed}
    assert "url" not in listed
    text = re.search(r"/console/join/([^/]+)/$", made["url"])
    assert text
    invitation_accept(text=text[1], user=bob.user)
    assert client.call("get", "invitations").json()["data"] == []
    changed = client.call("patch", f"members/{bob.user.id}", {"role": "developer"})
    assert (changed.status_code, changed.json()["role"]) == (200, "developer")
    assert client.call("delete", f"members/{bob.user.id}?keys=keep").status_code == 204
    assert code_of(client.call("delete", f"members/{bob.user.id}")) == (404, "not_found")


def test_a_mail_server_that_is_away_costs_the_letter_alone(ada: Customer, monkeypatch: pytest.MonkeyPatch):
    def away(*_: object) -> int:
        raise ConnectionRefusedError

    monkeypatch.setattr(EmailBackend, "send_messages", away)
    reply = ada.client().call("post", "invitations", {"email": "new@example.test", "role": "viewer"})
    assert (reply.status_code, reply.json()["was_sent"]) == (201, False)
    assert Invitation.objects.get().email == "new@example.test"


def test_without_a_mail_server_the_letter_stays_in_the_outbox(ada: Customer, settings, tmp_path: Path):
    settings.EMAIL_BACKEND = "django.core.mail.backends.filebased.EmailBackend"
    settings.EMAIL_FILE_PATH = str(tmp_path)
    reply = ada.client().call("post", "invitations", {"email": "new@example.test", "role": "viewer"})
    assert reply.json()["was_sent"] is False
    (letter,) = kept_list()
    assert letter.to == "new@example.test" and reply.json()["url"] in letter.body


def test_withdrawing(ada: Customer, bob: Customer):
    client = ada.client()
    made = client.call("post", "invitations", {"email": "new@example.test", "role": "viewer"}).json()
    assert code_of(bob.client().call("delete", f"invitations/{made['id']}")) == (404, "not_found")
    assert client.call("delete", f"invitations/{made['id']}").status_code == 204
    assert client.call("get", "invitations").json()["data"] == []


def test_a_key_makes_nobody_an_owner_and_unmakes_none(ada: Customer):
    client, owner = ada.client(), f"members/{ada.user.id}"
    asked = {"email": "new@example.test", "role": "owner"}
    assert code_of(client.call("post", "invitations", asked)) == (403, "role_forbidden")
    assert code_of(client.call("patch", owner, {"role": "viewer"})) == (403, "role_forbidden")
    assert code_of(client.call("delete", owner)) == (403, "role_forbidden")
    # An owner in person may, as long as another is left.
    assert ada.browser().call("post", "invitations", asked).status_code == 201
    assert code_of(ada.browser().call("delete", owner)) == (409, "last_owner")


def test_what_is_asked_wrongly(ada: Customer):
    client = ada.client()
    assert code_of(client.call("post", "invitations", {"email": "x", "role": "viewer"})) == (
        400,
        "email_invalid",
    )
    assert code_of(client.call("patch", f"members/{ada.user.id}", {"role": "king"})) == (400, "role_invalid")
    assert code_of(client.call("delete", f"members/{ada.user.id}?keys=burn")) == (400, "keys_invalid")


def test_developers_see_the_team_and_change_nothing(ada: Customer):
    Membership.objects.filter(user=ada.user).update(role="developer")
    browser = ada.browser()
    assert browser.call("get", "invitations").status_code == 200
    asked = {"email": "new@example.test", "role": "viewer"}
    assert code_of(browser.call("post", "invitations", asked)) == (403, "role_insufficient")
    assert code_of(browser.call("patch", f"members/{ada.user.id}", {"role": "owner"})) == (
        403,
        "role_insufficient",
    )


def test_a_session_acts_for_the_organisation_that_was_chosen(ada: Customer, bob: Customer):
    reply = ada.client().call("post", "invitations", {"email": bob.user.email, "role": "viewer"})
    browser = bob.browser()
    path = re.search(r"/console/join/.*", reply.json()["url"])
    assert path
    assert browser.post(path[0]).status_code == 303
    assert browser.call("get", "me").json()["organisation"]["id"] == ada.org.id
    assert browser.post("/console/organisation/", {"organisation": bob.org.id}).status_code == 303
    assert browser.call("get", "me").json()["organisation"]["id"] == bob.org.id
