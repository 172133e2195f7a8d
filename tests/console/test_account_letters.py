"""Letters about accounts: the links in them are followed, as the people who get them follow them."""

import re
from dataclasses import replace

import pytest
from django.core import mail
from django.core.cache import cache
from django.test import Client
from django.urls import reverse

from kindling_console_world import Member, World
from kindling_platform.accounts.models import Membership

PASSWORD = "a wholly new staple 9"
STOCK = ("Hello from", "Thank you for using", "webmaster", "You're receiving", "You are receiving")


def link_to(address: str) -> str:
    """The link of the last letter, which went to an address and reads as the console does."""
    letter = mail.outbox[-1]
    assert letter.to == [address]
    assert letter.from_email == "kindling@localhost"
    text = f"{letter.subject}\n{letter.body}"
    assert not [words for words in STOCK if words in text]
    found = re.search(r"https?://[^/\s]+(/\S+)", text)
    assert found, text
    return found[1]


def ask(client: Client, email: str) -> str:
    client.post("/accounts/password/reset/", {"email": email})
    assert mail.outbox[-1].subject == "[Kindling] Set a new password"
    return link_to(email)


def set_password(client: Client, link: str, password: str) -> str:
    """Follow a link and fill in its form; gives the last page."""
    form = client.get(link, follow=True)
    assert form.status_code == 200
    assert form.redirect_chain[-1][0].endswith("-set-password/")
    reply = client.post(
        form.redirect_chain[-1][0], {"password1": password, "password2": password}, follow=True
    )
    return str(reply.content.decode())


def test_a_forgotten_password_is_set_by_the_letters_link(world: World, member: Member):
    email, stranger = member.user.email, Client()
    link = ask(stranger, email)
    assert "_" in member.user.id and member.user.id in link
    assert "autofocus" in set_password(stranger, link, "short")
    assert "Your password is changed" in set_password(stranger, link, PASSWORD)
    reply = stranger.post("/accounts/login/", {"login": email, "password": PASSWORD}, follow=True)
    assert reply.redirect_chain[-1][0] == "/console/"
    # Whoever was signed in with the old one is not any more.
    assert member.client.get("/console/").status_code == 302


def test_a_link_that_was_used_or_is_made_up_is_refused_in_words(world: World, member: Member):
    link = ask(Client(), member.user.email)
    set_password(Client(), link, PASSWORD)
    for spoilt in (link, link.replace(member.user.id, "usr_nobody"), re.sub("-.*", "-none-at-all/", link)):
        reply = Client().get(spoilt, follow=True)
        assert (reply.status_code, "This link does not work" in reply.content.decode()) == (200, True)


def test_an_unknown_address_is_told_so_in_a_letter_alone(world: World, settings):
    settings.ACCOUNT_PREVENT_ENUMERATION = True
    Client().post("/accounts/password/reset/", {"email": "nobody@example.com"})
    assert link_to("nobody@example.com") == "/accounts/signup/"


def test_links_lead_to_the_public_url_whatever_the_request_calls_the_host(
    world: World, member: Member, settings
):
    settings.ACCOUNT_PREVENT_ENUMERATION, settings.ACCOUNT_EMAIL_VERIFICATION = True, "mandatory"
    settings.KINDLING_ENV = replace(settings.KINDLING_ENV, public_url="https://kindling.example")
    forged = {"headers": {"host": "localhost:6666"}}
    for email in (member.user.email, "nobody@example.com"):
        Client().post("/accounts/password/reset/", {"email": email}, **forged)
    form = {"email": member.user.email, "password1": PASSWORD, "password2": PASSWORD}
    Client().post("/accounts/signup/", form, **forged)
    member.client.post("/accounts/email/", {"action_add": "", "email": "third@example.com"}, **forged)
    bodies = [letter.body for letter in mail.outbox[-4:]]
    for body, path in zip(
        bodies, ("password/reset/key/usr_", "signup/", "password/reset/", "confirm-email/"), strict=True
    ):
        assert f"https://kindling.example/accounts/{path}" in body
        assert "Kindling, kindling.example" in body and "localhost" not in body


def test_another_address_is_confirmed_by_its_letters_link(member: Member):
    html = member.client.get("/accounts/email/").content.decode()
    assert "E-mail addresses" in html and "Re-send" not in html
    member.client.post("/accounts/email/", {"action_add": "", "email": "second@example.com"})
    assert mail.outbox[-1].subject == "[Kindling] Confirm your e-mail address"
    link = link_to("second@example.com")
    assert "not confirmed" in member.client.get("/accounts/email/").content.decode()
    page = member.client.get(link).content.decode()
    assert "second@example.com" in page and ">Confirm</button>" in page
    assert member.client.post(link).status_code == 302
    html = member.client.get("/accounts/email/").content.decode()
    assert re.search(r"second@example.com[^@]*>confirmed<", html)
    assert "This link does not work" in member.client.get("/accounts/confirm-email/none/").content.decode()


@pytest.mark.parametrize("enforced", ["optional", "mandatory"])
def test_a_new_account_is_confirmed_by_its_letters_link(world: World, settings, enforced: str):
    settings.ACCOUNT_EMAIL_VERIFICATION, client, email = enforced, Client(), f"{enforced}@example.com"
    form = {"email": email, "password1": PASSWORD, "password2": PASSWORD}
    html = client.post("/accounts/signup/", form, follow=True).content.decode()
    assert ("Confirm your e-mail address" in html) == (enforced == "mandatory")
    assert client.post(link_to(email)).status_code == 302
    client.post("/accounts/login/", {"login": email, "password": PASSWORD})
    assert client.get("/console/").status_code == 200


def test_an_invitation_is_accepted_by_its_letters_link(world: World, member: Member):
    guest = world.member("guest")
    member.client.post(reverse("console:team"), {"email": guest.user.email, "role": "viewer"})
    link = link_to(guest.user.email)
    assert member.org.name in guest.client.get(link).content.decode()
    assert guest.client.post(link).status_code == 303
    assert Membership.objects.filter(user=guest.user, organisation=member.org, role="viewer").exists()


def test_what_concerns_signing_in_asks_for_the_password_once_more(world: World, client: Client):
    form = {"email": "new@example.com", "password1": PASSWORD, "password2": PASSWORD}
    client.post("/accounts/signup/", form)
    html = client.get("/accounts/reauthenticate/").content.decode()
    assert "Confirm that it is you" in html and "reauthenticate to" not in html
    assert client.post("/accounts/reauthenticate/", {"password": PASSWORD}).status_code == 302


def test_a_mail_server_that_is_away_is_no_failure_of_the_page(world: World, member: Member, settings):
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    settings.EMAIL_HOST, settings.EMAIL_PORT, settings.EMAIL_TIMEOUT = "127.0.0.1", 1, 2
    cache.clear()
    for path in ("/accounts/password/reset/", "/accounts/login/code/"):
        reply = Client().post(path, {"email": member.user.email}, follow=True)
        assert reply.status_code == 200
        assert "The mail server takes no letters at the moment." in reply.content.decode()
