"""Passkeys by a key in software: added, used to sign in and to confirm, renamed, removed; and what is not taken."""

import json
import re

import pytest
from allauth.mfa.models import Authenticator
from allauth.mfa.totp.internal.auth import TOTP, generate_totp_secret
from django.test import Client

from kindling_console_world import World
from kindling_passkeys import SoftKey
from kindling_platform.accounts.factors import MOST_PASSKEYS
from kindling_platform.accounts.models import User
from kindling_platform.audit.models import AuditEvent

PASSWORD = "correct horse battery 7"
EMAIL = "grace@example.com"
KEYS = "/accounts/2fa/webauthn/"
SIGN_IN = f"{KEYS}login/"
CONFIRM = f"{KEYS}reauthenticate/"
AGAIN = "/accounts/reauthenticate/"
NOT_TAKEN = "This passkey was not taken"
HERE = {"HTTP_HOST": "localhost:8000"}


def signed_up(email: str = EMAIL) -> Client:
    client = Client(**HERE)
    client.post("/accounts/signup/", {"email": email, "password1": PASSWORD, "password2": PASSWORD})
    return client


def data_of(html: str) -> dict:
    """What the page tells its script."""
    found = re.search(r'<script id="passkey-data" type="application/json">(.*?)</script>', html)
    assert found, html
    return json.loads(found[1])


def options_of(client: Client) -> dict:
    return client.get(SIGN_IN, headers={"accept": "application/json"}).json()["request_options"]


def with_passkey(email: str = EMAIL, **form: str) -> tuple[Client, SoftKey]:
    client, key = signed_up(email), SoftKey()
    client.post(AGAIN, {"password": PASSWORD})
    html = client.get(f"{KEYS}add/").content.decode()
    made = key.made(data_of(html)["creation_options"])
    reply = client.post(f"{KEYS}add/", {"credential": made, "passwordless": "on", "name": "My phone"} | form)
    assert reply.status_code == 302, reply.content.decode()
    return client, key


def test_a_passkey_is_added_used_renamed_and_removed(world: World):
    client = signed_up()
    assert client.get(f"{KEYS}add/")["Location"].startswith(AGAIN)  # not by whoever finds a browser open
    assert "None yet." in client.get(KEYS).content.decode()
    client.post("/accounts/logout/")
    User.objects.filter(email=EMAIL).delete()

    client, key = with_passkey(name="  My\n phone ")
    assert "Recovery codes" in client.get("/accounts/2fa/recovery-codes/").content.decode()
    html = client.get(KEYS).content.decode()
    assert "My phone" in html and "not used yet" in html and "You have no recovery codes" not in html
    user = User.objects.get(email=EMAIL)
    added = AuditEvent.objects.get(target=user.id, action="user.factor_added")
    assert added.data == {"factor": "passkey", "name": "My phone"} and added.actor_id == user.id

    client.post("/accounts/logout/")
    sent = {"credential": key.used(options_of(client)), "next": "/console/keys/"}
    reply = client.post(SIGN_IN, sent)
    # Neither a password nor a second factor is asked for besides.
    assert (reply.status_code, reply["Location"]) == (302, "/console/keys/"), reply.content
    assert client.get("/console/").status_code == 200
    assert "last used" in client.get(KEYS).content.decode()

    place = f"{KEYS}keys/{Authenticator.objects.get(type='webauthn').id}/"
    for act in ("edit/", "remove/"):
        assert client.get(place + act)["Location"].startswith(AGAIN)
    asked = data_of(client.get(CONFIRM).content.decode())["request_options"]
    reply = client.post(CONFIRM, {"credential": key.used(asked), "next": KEYS})
    assert reply["Location"] == KEYS
    assert "at most 80 characters" in client.post(f"{place}edit/", {"name": "x" * 81}).content.decode()
    client.post(f"{place}edit/", {"name": "Old <phone>"})
    assert "Old &lt;phone&gt;" in client.get(KEYS).content.decode()
    Authenticator.objects.filter(type="recovery_codes").delete()
    assert "You have no recovery codes" in client.get(KEYS).content.decode()
    assert client.post(f"{place}remove/")["Location"] == KEYS
    assert not Authenticator.objects.filter(user=user).exists()
    removed = AuditEvent.objects.get(target=user.id, action="user.factor_removed")
    assert removed.data == {"factor": "passkey", "name": "Old <phone>"}


def test_a_person_has_so_many_and_no_more(world: World):
    client, _ = with_passkey()
    user = User.objects.get(email=EMAIL)
    html = client.get(f"{KEYS}add/").content.decode()
    row = Authenticator.objects.get(user=user, type="webauthn")
    Authenticator.objects.bulk_create(
        Authenticator(user=user, type="webauthn", data=row.data) for _ in range(MOST_PASSKEYS - 1)
    )
    sent = {
        "credential": SoftKey().made(data_of(html)["creation_options"]),
        "passwordless": "on",
        "name": "x",
    }
    refused = client.post(f"{KEYS}add/", sent).content.decode()
    assert f"You have {MOST_PASSKEYS} passkeys, which is the most. Remove one" in refused
    assert Authenticator.objects.filter(user=user, type="webauthn").count() == MOST_PASSKEYS
    # No device is asked to make one that nobody takes.
    assert client.get(f"{KEYS}add/")["Location"] == KEYS
    html = client.get(KEYS).content.decode()
    assert "which is the most" in html and "Add a passkey" not in html


def test_after_the_password_a_passkey_or_a_recovery_code_is_asked_for(world: World):
    client, key = with_passkey()
    client.post("/accounts/logout/")
    reply = client.post("/accounts/login/", {"login": EMAIL, "password": PASSWORD})
    assert reply["Location"] == "/accounts/2fa/authenticate/"
    assert client.get("/console/").status_code == 302
    html = client.get(reply["Location"]).content.decode()
    assert "Use a passkey" in html and "recovery codes" in html and "your app" not in html
    stranger = SoftKey(id=key.id, owner=key.owner)
    wrong = {"credential": stranger.used(data_of(html)["request_options"])}
    html = client.post(reply["Location"], wrong).content.decode()
    assert client.get("/console/").status_code == 302
    good = {"credential": key.used(data_of(html)["request_options"])}
    assert client.post(reply["Location"], good)["Location"] == "/console/"
    assert client.get("/console/").status_code == 200


def test_with_an_app_and_a_passkey_either_is_taken(world: World):
    client, key = with_passkey()
    user = User.objects.get(email=EMAIL)
    TOTP.activate(user, generate_totp_secret())
    client.post("/accounts/logout/")
    reply = client.post("/accounts/login/", {"login": EMAIL, "password": PASSWORD}, follow=True)
    html = reply.content.decode()
    assert "your app" in html and "Use a passkey instead" in html
    sent = {"credential": key.used(data_of(html)["request_options"])}
    assert client.post("/accounts/2fa/authenticate/", sent)["Location"] == "/console/"


JUNK = [
    "",
    "x",
    "[]",
    "7",
    "null",
    "{}",
    '{"id": "x"}',
    '{"response": {"userHandle": 7}}',
    '{"response": []}',
]


@pytest.mark.parametrize("credential", JUNK)
def test_junk_in_the_place_of_a_passkey_is_a_sentence(world: World, credential: str):
    client = Client(**HERE)
    options_of(client)
    reply = client.post(f"{SIGN_IN}?next=/console/keys/", {"credential": credential}, follow=True)
    assert reply.redirect_chain[-1] == ("/accounts/login/?next=%2Fconsole%2Fkeys%2F", 302)
    assert NOT_TAKEN in reply.content.decode()


def test_what_a_passkey_is_not_taken_for(world: World):
    client, key = with_passkey()
    with_passkey("else@example.com")
    other = User.objects.get(email="else@example.com")
    browser = Client(**HERE)

    def refused(sent: str) -> bool:
        reply = browser.post(SIGN_IN, {"credential": sent}, follow=True)
        return NOT_TAKEN in reply.content.decode() and browser.get("/console/").status_code == 302

    good = key.used(options_of(browser))
    assert refused(SoftKey(id=key.id, owner=key.owner).used(options_of(browser))), "another key's signature"
    assert refused(good), "the challenge of an earlier page"
    elsewhere = SoftKey("https://localhost.evil.example", key.host, True, key.id, key.key, key.owner)
    assert refused(elsewhere.used(options_of(browser))), "another site's"
    silent = SoftKey(key.origin, key.host, False, key.id, key.key, key.owner)
    assert refused(silent.used(options_of(browser))), "without a PIN or a touch that proves who it is"
    named = SoftKey(key.origin, key.host, True, key.id, key.key, other.id)
    assert refused(named.used(options_of(browser))), "somebody else's"
    User.objects.filter(email=EMAIL).update(is_active=False)
    browser.post(SIGN_IN, {"credential": key.used(options_of(browser))})
    assert browser.get("/console/").status_code == 302, "of a closed account"
    # Nor for what somebody else has to confirm.
    place = f"{KEYS}keys/{Authenticator.objects.get(user=other, type='webauthn').id}/remove/"
    third = signed_up("third@example.com")
    third.post(AGAIN, {"password": PASSWORD})
    assert third.post(place).status_code == 404
    assert client.get(KEYS).status_code == 302


def test_a_broken_new_passkey_is_not_added(world: World):
    client, key = signed_up(), SoftKey(verifies=False)
    client.post(AGAIN, {"password": PASSWORD})
    html = client.get(f"{KEYS}add/").content.decode()
    weak = key.made(data_of(html)["creation_options"])
    for credential in (weak, *JUNK):
        sent = {"credential": credential, "passwordless": "on", "name": "x"}
        reply = client.post(f"{KEYS}add/", sent)
        assert "The passkey was not added" in reply.content.decode(), credential
    assert not Authenticator.objects.exists()


def test_whose_passkeys_they_are_is_the_name_that_is_asked_for(world: World, settings):
    settings.ALLOWED_HOSTS = ["ai.example.com", "localhost"]
    key = SoftKey("https://ai.example.com", "ai.example.com")
    behind = {"HTTP_HOST": "ai.example.com", "HTTP_X_FORWARDED_PROTO": "https"}
    client = Client(**behind)
    client.post("/accounts/signup/", {"email": EMAIL, "password1": PASSWORD, "password2": PASSWORD})
    client.post(AGAIN, {"password": PASSWORD})
    html = client.get(f"{KEYS}add/").content.decode()
    asked = data_of(html)["creation_options"]
    assert asked["publicKey"]["rp"] == {"id": "ai.example.com", "name": "Kindling"}
    sent = {"credential": key.made(asked), "passwordless": "on", "name": ""}
    assert client.post(f"{KEYS}add/", sent).status_code == 302
    assert str(Authenticator.objects.get(type="webauthn")) == "Passkey 1"
    assert options_of(Client(**HERE))["publicKey"]["rpId"] == "localhost"
    assert Client(HTTP_HOST="evil.example.com").get(SIGN_IN).status_code == 400
