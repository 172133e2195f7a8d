"""What a crafted sign-in or form gets at: no address that nobody has confirmed, no operator, no change unasked."""

import base64
import json
import re
from collections.abc import Iterator

import pytest
from allauth.account.models import EmailAddress
from allauth.mfa.models import Authenticator
from allauth.socialaccount.models import SocialAccount
from django.conf import settings as django_settings
from django.contrib.sessions.models import Session
from django.test import Client

from kindling_console_world import World
from kindling_departures import PASSWORD, confirmed
from kindling_identity import BEGIN, Provider, configured, identity_provider, way_back
from kindling_passkeys import SoftKey
from kindling_platform.accounts.models import Membership, User
from kindling_platform.accounts.reauthentication import SIGNED_IN_AT

EMAIL = "kate@example.com"
ADD = "/accounts/2fa/webauthn/add/"
SIGN_IN = "/accounts/2fa/webauthn/login/"


@pytest.fixture(scope="module")
def running() -> Iterator[Provider]:
    with identity_provider() as provider:
        yield provider


@pytest.fixture
def provider(running: Provider, settings) -> Provider:
    running.person, running.spoil = {"email": EMAIL, "email_verified": True, "name": "Kate"}, {}
    settings.KINDLING_ENV = configured(running.url)
    return running


def aged(client: Client) -> None:
    """Let the time go by for which a sign-in and a confirmation hold."""
    session = client.session
    gone = django_settings.ACCOUNT_REAUTHENTICATION_TIMEOUT + 1
    session[SIGNED_IN_AT] -= gone
    for record in session.get("account_authentication_methods", []):
        record["at"] -= gone
    session.save()


@pytest.mark.parametrize("process", ["signup", "LOGIN", "x"])
def test_an_unconfirmed_address_opens_nothing_whatever_the_sign_in_is_called(
    world: World, provider: Provider, client: Client, process: str
):
    provider.person["email_verified"] = False
    reply = client.get(way_back(client, f"{BEGIN}?process={process}"))
    assert not User.objects.filter(email=EMAIL).exists(), reply.status_code
    assert not EmailAddress.objects.filter(email=EMAIL).exists()
    assert client.get("/console/").status_code == 302


def test_an_address_that_only_folds_to_another_is_not_that_one(
    world: World, provider: Provider, client: Client
):
    owner = world.member("kate").user
    EmailAddress.objects.update_or_create(
        user=owner, email=owner.email, defaults={"verified": True, "primary": True}
    )
    provider.person["email"] = owner.email.replace("k", "\u212a", 1)
    client.get(way_back(client, f"{BEGIN}?process=login"))
    assert not SocialAccount.objects.exists() and client.get("/console/").status_code == 302
    # Nor is it taken for one that nobody has yet.
    User.objects.filter(id=owner.id).update(email="other@example.com")
    EmailAddress.objects.all().delete()
    client.get(way_back(client, f"{BEGIN}?process=login"))
    assert not User.objects.filter(email=EMAIL).exists()


def test_nobody_joins_the_operators_people_by_an_address(world: World, provider: Provider, client: Client):
    colleague = world.member("kate").user
    EmailAddress.objects.update_or_create(
        user=colleague, email=colleague.email, defaults={"verified": True, "primary": True}
    )
    Membership.objects.create(user=colleague, organisation=world.operator.org, role="admin")
    provider.person["email"] = colleague.email
    reply = client.get(way_back(client, f"{BEGIN}?process=login"))
    assert reply.status_code == 409 and not SocialAccount.objects.exists()


def test_an_address_is_not_added_unasked_beside_a_letter_that_is_sent_again(world: World):
    user = world.member("kate").user
    client = confirmed(user)
    aged(client)
    form = {"action_add": "", "action_send": "", "email": "mallory@example.net"}
    reply = client.post("/accounts/email/", form)
    assert not EmailAddress.objects.filter(email="mallory@example.net").exists()
    assert reply["Location"].startswith("/accounts/reauthenticate/")


def test_a_password_that_is_typed_too_late_is_not_kept(world: World, provider: Provider, client: Client):
    client.get(way_back(client, f"{BEGIN}?process=login"))
    aged(client)
    secret = "one-quite-secret-horse-9"
    reply = client.post("/accounts/password/set/", {"password1": secret, "password2": secret})
    assert reply.status_code == 302
    session = Session.objects.get(session_key=client.session.session_key)
    assert secret not in str(session.get_decoded())
    assert not User.objects.get(email=EMAIL).has_usable_password()


def test_whoever_has_a_password_is_not_confirmed_by_a_session_elsewhere(
    world: World, provider: Provider, client: Client
):
    client.get(way_back(client, f"{BEGIN}?process=login"))
    user = User.objects.get(email=EMAIL)
    user.set_password(PASSWORD)
    user.save()
    client = Client()
    client.force_login(user)
    there = "/accounts/3rdparty/"
    assert client.get(there)["Location"].startswith("/accounts/reauthenticate/")
    assert client.post("/accounts/confirm/oidc/", {"next": there}).status_code == 404
    client.get(way_back(client, f"{BEGIN}?process=confirm", next=there))
    assert client.get(there).status_code == 302
    client.post("/accounts/reauthenticate/", {"password": PASSWORD})
    assert client.get(there).status_code == 200


@pytest.mark.parametrize("odd", ["\x00", "\ud800", "x" * 100_000])
def test_of_a_passkey_nothing_is_kept_that_no_passkey_has(world: World, odd: str):
    client = confirmed(world.member("kate").user)
    client.defaults["HTTP_HOST"] = "localhost:8000"
    html = client.get(ADD).content.decode()
    found = re.search(r'id="passkey-data" type="application/json">(.*?)</script>', html)
    assert found
    made = json.loads(SoftKey().made(json.loads(found[1])["creation_options"])) | {"more": odd}
    form = {"credential": json.dumps(made), "passwordless": "on", "name": "Phone"}
    reply = client.post(ADD, form)
    assert reply.status_code == 200 and "was not added" in reply.content.decode()
    assert not Authenticator.objects.exists()


@pytest.mark.parametrize("handle", [b"usr_\x00", b"\xff", b"x" * 5000])
def test_a_passkey_of_a_user_that_cannot_be_is_a_sentence(world: World, client: Client, handle: bytes):
    client.defaults["HTTP_HOST"] = "localhost:8000"
    options = client.get(SIGN_IN, headers={"accept": "application/json"}).json()["request_options"]
    key = SoftKey(owner=base64.urlsafe_b64encode(handle).decode().rstrip("="))
    reply = client.post(SIGN_IN, {"credential": key.used(options)}, follow=True)
    assert reply.status_code == 200 and "This passkey was not taken" in reply.content.decode()
