"""Signing in with a mailed code: whose code it is, how long it works, what it does to a password nobody confirmed."""

import re
import time
from datetime import timedelta

import pytest
from allauth.account.models import EmailAddress
from django.core import mail
from django.core.cache import cache
from django.test import Client

from kindling_console_world import Member, World
from kindling_platform.accounts.models import User

ASK, ENTER = "/accounts/login/code/", "/accounts/login/code/confirm/"
HOME = "/console/"


@pytest.fixture(autouse=True)
def patience() -> None:
    """Each test asks for three codes a minute by itself."""
    cache.clear()


def confirm(member: Member, *, verified: bool = True) -> str:
    """An account whose address is known, confirmed or not; gives the address."""
    EmailAddress.objects.update_or_create(
        user=member.user, email=member.user.email, defaults={"verified": verified, "primary": True}
    )
    return str(member.user.email)


def code_of(address: str) -> str:
    letter = mail.outbox[-1]
    assert letter.to == [address]
    assert letter.subject == "[Kindling] Your code to sign in"
    found = re.search(r"^([A-Z0-9-]{5,})$", letter.body, re.MULTILINE)
    assert found, letter.body
    return found[1]


def ask(client: Client, address: str, **fields: str) -> str:
    reply = client.post(ASK, {"email": address, **fields})
    assert reply.status_code == 302, reply.context["form"].errors
    assert reply["Location"].startswith(ENTER)
    return code_of(address)


def is_in(client: Client) -> bool:
    return bool(client.get(HOME).status_code == 200)


def test_a_code_signs_in_once_and_leads_on(world: World, member: Member):
    address, stranger = confirm(member), Client()
    code = ask(stranger, address, next="/console/keys/")
    page = stranger.get(f"{ENTER}?next=/console/keys/").content.decode()
    assert address in page and 'autocomplete="one-time-code"' in page
    reply = stranger.post(ENTER, {"code": code, "next": "/console/keys/"})
    assert reply["Location"] == "/console/keys/"
    assert is_in(stranger)
    member.user.refresh_from_db()
    assert member.user.has_usable_password() and is_in(member.client)
    again = Client()
    ask(again, address)
    again.post(ENTER, {"code": code})
    assert not is_in(again), "it worked a second time"


def test_a_code_is_of_one_browser_and_one_account(world: World, member: Member):
    address, stranger, other = confirm(member), Client(), Client()
    code = ask(stranger, address)
    other.post(ENTER, {"code": code})
    assert not is_in(other)
    stranger.post(ENTER, {"code": code})
    assert is_in(stranger)


def test_three_wrong_codes_end_it_and_another_can_be_sent(world: World, member: Member):
    address, stranger = confirm(member), Client()
    first = ask(stranger, address)
    stranger.post(ENTER, {"action": "resend"})
    second = code_of(address)
    assert second != first
    for wrong in (first, "AAAA-AAAA"):
        reply = stranger.post(ENTER, {"code": wrong})
        assert reply.status_code == 200 and "ncorrect code" in reply.content.decode()
    assert stranger.post(ENTER, {"code": "BBBB-BBBB"})["Location"] == ASK
    stranger.post(ENTER, {"code": second})
    assert not is_in(stranger)


def test_an_old_code_is_refused(world: World, member: Member, monkeypatch: pytest.MonkeyPatch):
    address, stranger = confirm(member), Client()
    code = ask(stranger, address)
    later = time.time() + timedelta(minutes=15, seconds=1).total_seconds()
    with monkeypatch.context() as patch:
        patch.setattr("time.time", lambda: later)
        stranger.post(ENTER, {"code": code})
    assert not is_in(stranger)


def test_a_password_that_somebody_chose_before_the_address_was_confirmed_is_void(
    world: World, member: Member
):
    address, stranger = confirm(member, verified=False), Client()
    reply = stranger.post(ENTER, {"code": ask(stranger, address)}, follow=True)
    assert "is void" in reply.content.decode()
    assert is_in(stranger)
    assert EmailAddress.objects.get(email=address).verified
    member.user.refresh_from_db()
    assert not member.user.has_usable_password()
    # Whoever was signed in with it is not any more.
    assert not is_in(member.client)


def test_without_a_mail_server_the_way_is_not_shown_and_the_pages_say_where_letters_are(
    world: World, member: Member, settings, tmp_path
):
    address, client = confirm(member), Client()
    settings.EMAIL_FILE_PATH = None
    assert "login/code/" in client.get("/accounts/login/").content.decode()
    ask(client, address)
    assert "Mail outbox" not in client.get(ENTER).content.decode()
    settings.EMAIL_FILE_PATH = str(tmp_path)
    assert "login/code/" not in client.get("/accounts/login/").content.decode()
    assert "Mail outbox" in client.get(ENTER).content.decode()
    assert "Mail outbox" in client.get("/accounts/password/reset/done/").content.decode()


@pytest.mark.parametrize("hides", [False, True])
def test_an_address_nobody_has_confirmed_opens_no_account_that_has_one(
    world: World, member: Member, settings, hides: bool
):
    settings.ACCOUNT_PREVENT_ENUMERATION = hides
    own, strange = confirm(member), "stranger@example.com"
    added = EmailAddress.objects.create(user=member.user, email=strange, verified=False)
    for page in (ASK, "/accounts/password/reset/"):
        reply = Client().post(page, {"email": strange})
        assert reply.status_code == (302 if hides else 200)
    assert not [
        letter for letter in mail.outbox if "code to sign in" in letter.subject or "/key/" in letter.body
    ]
    added.verified = True
    added.save()
    reader = Client()
    reader.post(ENTER, {"code": ask(reader, strange)})
    assert is_in(reader)
    assert User.objects.get(id=member.user.id).has_usable_password()
    assert own != strange
