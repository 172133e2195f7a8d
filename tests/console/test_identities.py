"""Signing in at an OpenID provider, which is a real one: who comes in, into which account, and who does not."""

import time
from collections.abc import Iterator

import pytest
from allauth.account.models import EmailAddress
from allauth.mfa.models import Authenticator
from allauth.socialaccount.models import SocialAccount
from allauth.socialaccount.providers.github.views import GitHubOAuth2Adapter
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from django.test import Client

from kindling_billing.selectors import balance_get
from kindling_console_world import World
from kindling_identity import BEGIN, NAME, Provider, configured, identity_provider, way_back
from kindling_platform.accounts.models import Organisation, User
from kindling_platform.accounts.services import operator_ensure
from kindling_platform.audit.models import AuditEvent
from kindling_platform.common.identity import GITHUB

PASSWORD = "correct horse battery 7"
EMAIL = "grace@example.com"
GRACE = {"email": EMAIL, "email_verified": True, "name": "Grace\x00 Hopper"}
LINKS = "/accounts/3rdparty/"
DATA = "/console/account/data/"


@pytest.fixture(scope="module")
def running() -> Iterator[Provider]:
    with identity_provider() as provider:
        yield provider


@pytest.fixture
def provider(running: Provider, settings) -> Provider:
    running.person, running.spoil, running.refuses = dict(GRACE), {}, ""
    running.algorithm, running.shown = "RS256", running.key
    settings.KINDLING_ENV = configured(running.url)
    return running


def sign_in(client: Client, **form: str):
    return client.get(way_back(client, f"{BEGIN}?process=login", **form))


def signed_up(email: str = EMAIL, *, confirmed: bool) -> Client:
    client = Client()
    client.post("/accounts/signup/", {"email": email, "password1": PASSWORD, "password2": PASSWORD})
    EmailAddress.objects.filter(email=email).update(verified=confirmed)
    return client


def said(reply) -> str:
    """The sentence of a refusal, which is a page and never a traceback."""
    text = reply.content.decode()
    assert "That did not work" in text
    return text


def test_the_first_sign_in_makes_a_user_with_an_organisation_and_credit(world: World, provider: Provider):
    client = Client()
    assert f"Sign in with {NAME}" in client.get("/accounts/login/?next=/console/keys/").content.decode()
    assert f"Sign up with {NAME}" in client.get("/accounts/signup/").content.decode()
    reply = sign_in(client, next="/console/keys/")
    assert (reply.status_code, reply["Location"]) == (302, "/console/keys/"), reply.content
    user = User.objects.get(email=EMAIL)
    org = Organisation.objects.get(memberships__user=user)
    assert (user.name, org.name, user.has_usable_password()) == ("Grace Hopper", "Grace Hopper", False)
    assert balance_get(owner_id=org.id).picousd == 10**12
    assert EmailAddress.objects.get(user=user).verified
    assert provider.asked["code_challenge_method"] == "S256" and len(provider.asked["nonce"]) > 20
    assert provider.asked["redirect_uri"].endswith("/accounts/oidc/oidc/login/callback/")
    assert AuditEvent.objects.filter(target=user.id, action="user.identity_linked").count() == 1
    assert SocialAccount.objects.get().extra_data == {
        "issuer": provider.url, "subject": "1234", "email": EMAIL, "name": "Grace Hopper",
    }  # fmt: skip
    client.post("/accounts/logout/")
    assert client.get("/console/").status_code == 302
    # The person is who they are by issuer and subject, wherever their mail goes by now.
    provider.person |= {"email": "other@example.com"}
    assert sign_in(client)["Location"] == "/console/"
    assert client.get("/console/").status_code == 200
    assert User.objects.filter(email="other@example.com").count() == 0


def test_without_a_provider_there_is_no_trace_of_one(world: World, client: Client):
    html = client.get("/accounts/login/").content.decode() + client.get("/accounts/signup/").content.decode()
    assert "Sign in with a passkey" in html and "/oidc/" not in html and "github" not in html
    assert client.post(BEGIN).status_code == 404
    assert client.post("/accounts/github/login/").status_code == 404


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        ({"nonce": "of another"}, "it answers another sign-in"),
        ({"aud": "another-client"}, "made for another application"),
        ({"aud": ["kindling-test", "another-client"]}, "made for another application"),
        ({"exp": time.time() - 3600}, "it has expired"),
        ({"iss": "https://elsewhere.example.com"}, "its issuer, its time or its form is wrong"),
        ({"sub": "x\x00y"}, "does not say whose it is"),
        ({"sub": None}, "its issuer, its time or its form is wrong"),
        ({"email_verified": False}, "has not confirmed an e-mail address of yours"),
        ({"email": "no address"}, "has not confirmed an e-mail address of yours"),
        ({"email": 7}, "has not confirmed an e-mail address of yours"),
    ],
)
def test_what_is_wrong_with_a_token_is_said_and_nobody_comes_in(
    world: World, provider: Provider, client: Client, spoil: dict, sentence: str
):
    provider.spoil = spoil
    reply = sign_in(client)
    assert reply.status_code in {401, 403} and sentence in said(reply)
    assert client.get("/console/").status_code == 302
    assert not User.objects.filter(email=EMAIL).exists()


def test_a_signature_of_somebody_else_and_none_at_all_are_no_signature(
    world: World, provider: Provider, client: Client
):
    provider.shown = generate_private_key(65537, 2048)
    assert "none of its maker&#x27;s keys has signed it" in said(sign_in(client))
    provider.algorithm = "none"
    assert "signed in a way that is not accepted" in said(sign_in(client))
    assert not User.objects.filter(email=EMAIL).exists()


def test_a_way_back_works_once_and_in_the_browser_that_began(
    world: World, provider: Provider, client: Client
):
    back = way_back(client, f"{BEGIN}?process=login")
    assert "begun in another browser" in said(Client().get(back))
    assert client.get(back).status_code == 302
    assert "begun in another browser" in said(client.get(back))
    assert "begun in another browser" in said(
        client.get("/accounts/oidc/oidc/login/callback/?state=x&code=y")
    )
    provider.refuses = "access_denied"
    assert "You stopped at" in said(sign_in(Client()))
    provider.refuses = "server_error"
    assert "did not let you in" in said(sign_in(Client()))


def test_a_provider_that_is_away_is_a_sentence_at_both_ends(
    world: World, provider: Provider, client: Client, settings
):
    back = way_back(client, f"{BEGIN}?process=login")
    settings.KINDLING_ENV = configured("http://127.0.0.1:9")
    for reply in (client.post(BEGIN), client.get(back)):
        assert reply.status_code == 502 and "does not answer" in said(reply)
    settings.KINDLING_ENV = configured(provider.url + "/keys")  # its discovery is not there
    assert client.post(BEGIN).status_code in {401, 502}


def test_an_account_is_joined_only_where_both_sides_have_confirmed_the_address(
    world: World, provider: Provider, client: Client
):
    signed_up(confirmed=False)
    reply = sign_in(client)
    assert reply.status_code == 409 and "is here already" in said(reply)
    assert client.get("/console/").status_code == 302 and not SocialAccount.objects.exists()
    EmailAddress.objects.filter(email=EMAIL).update(verified=True)
    # A second factor is more than an address shows.
    user = User.objects.get(email=EMAIL)
    factor = Authenticator.objects.create(user=user, type="totp", data={"secret": "x"})
    assert sign_in(client).status_code == 409
    factor.delete()
    assert sign_in(client).status_code == 302
    assert client.get("/console/").status_code == 200
    assert User.objects.get(email=EMAIL).check_password(PASSWORD)
    assert SocialAccount.objects.get().user == user
    assert AuditEvent.objects.get(action="user.identity_linked").target == user.id


def test_nobody_becomes_the_operator_by_an_address(world: World, provider: Provider, client: Client):
    operator, _ = operator_ensure(email=world.operator.user.email)
    provider.person["email"] = operator.email
    assert "is here already" in said(sign_in(client))
    assert not SocialAccount.objects.exists()


def test_a_link_is_made_and_undone_by_whoever_confirms(world: World, provider: Provider):
    client = signed_up(confirmed=False)
    reply = client.get(LINKS)
    assert reply["Location"].startswith("/accounts/reauthenticate/")
    client.post(reply["Location"], {"password": PASSWORD})
    provider.person["email"] = "grace@elsewhere.example.com"
    assert client.get(way_back(client, f"{BEGIN}?process=connect"))["Location"] == LINKS
    html = client.get(LINKS).content.decode()
    assert "grace@elsewhere.example.com" in html and ">Unlink</button>" in html
    # The same account over there signs nobody else in.
    other = signed_up("other@example.com", confirmed=False)
    other.post("/accounts/reauthenticate/", {"password": PASSWORD})
    other.get(way_back(other, f"{BEGIN}?process=connect"))
    account = SocialAccount.objects.get()
    assert account.user.email == EMAIL
    assert other.post(LINKS, {"account": str(account.id)}).status_code == 303
    assert SocialAccount.objects.filter(id=account.id).exists()
    assert client.post(LINKS, {"account": "x"}).status_code == 404
    assert client.post(LINKS, {"account": str(account.id)}).status_code == 303
    assert not SocialAccount.objects.exists()
    assert AuditEvent.objects.get(action="user.identity_unlinked").target == account.user_id


def test_without_a_password_the_provider_confirms_and_stays_the_last_way_in(
    world: World, provider: Provider, client: Client
):
    sign_in(client)
    assert client.get(DATA).status_code == 200  # who has just come from there need not go again
    account = SocialAccount.objects.get()
    assert (
        "only way in which you can sign in"
        in client.post(LINKS, {"account": str(account.id)}, follow=True).content.decode()
    )
    age(client)
    reply = client.get(DATA)
    confirm = "/accounts/confirm/oidc/"
    assert reply["Location"].startswith(confirm)
    for place in ("/accounts/password/set/", LINKS, "/accounts/2fa/webauthn/add/"):
        assert client.get(place)["Location"].startswith(confirm), place
    html = client.get(reply["Location"]).content.decode()
    assert f"Go to {NAME}" in html and "a password of yours, set by a link that we mail you" in html
    provider.spoil = {"sub": "5678"}
    assert "somebody else" in said(client.get(way_back(client, confirm, next=DATA)))
    provider.spoil = {"auth_time": time.time() - 3600}
    assert "it did not ask you again" in said(client.get(way_back(client, confirm, next=DATA)))
    assert client.get(DATA).status_code == 302
    provider.spoil = {}
    assert client.get(way_back(client, confirm, next=DATA))["Location"] == DATA
    assert provider.asked["prompt"] == "login" and provider.asked["max_age"] == "0"
    assert client.get(DATA).status_code == 200
    assert client.get("/accounts/password/set/").status_code == 200
    # A form that was interrupted is taken up where it was.
    age(client)
    assert client.post(DATA).status_code == 302
    assert client.get(way_back(client, confirm, next=DATA))["Content-Type"] == "application/zip"


def test_github_lets_in_by_an_address_that_it_has_confirmed(
    world: World, provider: Provider, client: Client, settings, monkeypatch: pytest.MonkeyPatch
):
    places = {
        "authorize": "/authorize",
        "access_token": "/token",
        "profile": "/user",
        "emails": "/user/emails",
    }
    for name, path in places.items():
        monkeypatch.setattr(GitHubOAuth2Adapter, f"{name}_url", provider.url + path)
    settings.KINDLING_ENV = configured(provider.url, GITHUB)
    begin = "/accounts/github/login/?process=login"
    provider.github = {"email": EMAIL, "verified": False}
    assert "has not confirmed an e-mail address of yours" in said(client.get(way_back(client, begin)))
    provider.github["verified"] = True
    # Nothing but the addresses is asked for, whatever a link adds.
    reply = client.get(
        way_back(client, f"{begin}&scope=repo&auth_params=redirect_uri%3Dhttps://evil.example")
    )
    assert reply.status_code == 302 and client.get("/console/").status_code == 200
    assert provider.asked["scope"] == "user:email" and provider.asked["code_challenge_method"] == "S256"
    assert SocialAccount.objects.get().extra_data == {"login": "grace", "name": "Grace Hopper"}
    age(client)
    # It cannot ask anew who somebody is: a password by mail can.
    assert client.get(DATA)["Location"].startswith("/accounts/password/reset/")
    assert client.get("/accounts/confirm/github/").status_code == 404
    sneaked = client.get(way_back(client, "/accounts/github/login/?process=confirm"))
    assert "it confirms nothing" in said(sneaked) and client.get(DATA).status_code == 302


def age(client: Client) -> None:
    """Let an hour go by since the browser's owner came in."""
    session = client.session
    for record in session["account_authentication_methods"]:
        record["at"] -= 3600
    session.save()
