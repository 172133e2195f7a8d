"""Keys, money and addresses ask who it is when sign-in and confirmation are old; until then nothing changes."""

import pytest
from django.conf import settings
from django.core.cache import cache
from django.test import Client
from django.utils.http import urlencode

from kindling_billing.money import PICO_PER_USD
from kindling_billing.payment_selectors import auto_topup_get, payment_list
from kindling_billing.saved_cards import card_list
from kindling_billing.webhooks.cards import card_apply, customer_known
from kindling_console_world import Member, World
from kindling_departures import PASSWORD
from kindling_platform.accounts.reauthentication import SIGNED_IN_AT
from kindling_platform.keys.limits import limits_get, limits_set
from kindling_platform.keys.models import ApiKey

pytestmark = pytest.mark.django_db
AGAIN = "/accounts/reauthenticate/"
KEYS, LIMITS = "/console/keys/", "/console/limits/"
NEW = {"name": "laptop 2", "scopes": ["inference"], "expiry": "never"}


@pytest.fixture
def stale(member: Member) -> Client:
    """The member's browser, a while after the sign-in."""
    cache.clear()
    member.user.set_password(PASSWORD)
    member.user.save()
    client = Client()
    client.force_login(member.user)
    aged(client)
    return client


def aged(client: Client) -> None:
    """As after the time for which a sign-in and a confirmation hold."""
    session = client.session
    gone = settings.ACCOUNT_REAUTHENTICATION_TIMEOUT + 1
    session[SIGNED_IN_AT] -= gone
    for record in session.get("account_authentication_methods", []):
        record["at"] -= gone
    session.save()


def confirm(client: Client, path: str):
    return client.post(AGAIN, {"password": PASSWORD, "next": path}, follow=True)


def is_asked(reply, path: str) -> bool:
    return (reply.status_code, reply["Location"]) == (302, f"{AGAIN}?{urlencode({'next': path})}")


def names(member: Member) -> list[str]:
    return sorted(ApiKey.objects.filter(organisation=member.org).values_list("name", flat=True))


def test_a_key_is_made_once_it_is_confirmed(member: Member, stale: Client):
    assert stale.get(KEYS).status_code == 200
    reply = stale.post(f"{KEYS}?from=home", NEW)
    assert is_asked(reply, KEYS) and names(member) == []
    assert "What you sent is kept" in stale.get(reply["Location"]).content.decode()
    assert stale.post(AGAIN, {"password": "wrong", "next": KEYS}).status_code == 200 and names(member) == []
    done = confirm(stale, KEYS)
    assert done.status_code == 200 and names(member) == ["laptop 2"]
    assert "kd_" in done.content.decode() and done["Cache-Control"] == "no-store"
    # Now it holds for a while, and is taken once.
    confirm(stale, KEYS)
    assert stale.post(KEYS, NEW | {"name": "phone"}).status_code == 200
    assert names(member) == ["laptop 2", "phone"]
    aged(stale)
    assert is_asked(stale.post(KEYS, NEW), KEYS) and len(names(member)) == 2


def test_htmx_makes_the_page_go_there_and_the_answer_is_a_page(member: Member, stale: Client):
    reply = stale.post(KEYS, NEW, headers={"HX-Request": "true", "HX-Target": "key-dialog"})
    assert (reply.status_code, reply["HX-Redirect"]) == (204, f"{AGAIN}?{urlencode({'next': KEYS})}")
    assert names(member) == []
    html = confirm(stale, KEYS).content.decode()
    assert "<html" in html and "kd_" in html and names(member) == ["laptop 2"]


def test_what_was_typed_comes_back_when_it_is_refused(member: Member, stale: Client):
    stale.post(KEYS, NEW | {"name": "x" * 200})
    reply = confirm(stale, KEYS)
    assert (
        reply.status_code == 422
        and "x" * 200 in reply.content.decode()
        and f'action="{KEYS}"' in reply.content.decode()
    )


def test_signing_in_anew_counts(member: Member, stale: Client):
    stale.post("/accounts/logout/")
    stale.post("/accounts/login/", {"login": member.user.email, "password": PASSWORD})
    assert stale.post(KEYS, NEW).status_code == 200 and names(member) == ["laptop 2"]
    # Yet what cannot be undone asks all the same.
    assert is_asked(stale.get("/console/settings/delete/"), "/console/settings/delete/")


def test_a_sign_up_counts(world: World):
    client = Client()
    form = {"email": "new@example.com", "password1": PASSWORD, "password2": PASSWORD}
    assert client.post("/accounts/signup/", form).status_code == 302
    assert client.post(KEYS, NEW).status_code == 200
    aged(client)
    assert is_asked(client.post(KEYS, NEW), KEYS)


def test_rotating_asks_when_it_is_sent(member: Member, stale: Client):
    path = f"{KEYS}{member.key().id}/rotate/"
    html = stale.get(path).content.decode()
    assert f'action="{path}"' in html
    assert is_asked(stale.post(path, {"overlap": "0"}), path) and len(names(member)) == 1
    confirm(stale, path)
    assert len(names(member)) == 2


def test_a_budget_is_lowered_at_once_and_raised_once_it_is_confirmed(member: Member, stale: Client):
    def budget() -> int | None:
        return limits_get(org=member.org).budget_month_picousd

    path = "/console/billing/limit/"
    assert stale.post(path, {"limit": "50"}).status_code == 303
    assert stale.post(path, {"limit": "20"}).status_code == 303 and budget() == 20 * PICO_PER_USD
    for more in ("30", ""):
        assert is_asked(stale.post(path, {"limit": more}), path) and budget() == 20 * PICO_PER_USD
    confirm(stale, path)
    assert budget() is None
    assert stale.post(path, {"limit": "20"}).status_code == 303
    assert stale.post(path, {"limit": "30"}).status_code == 303 and budget() == 30 * PICO_PER_USD


def test_limits_of_members_and_keys_ask_as_well(member: Member, stale: Client):
    key = member.key()
    for whose, path in (
        ({"member_id": member.user.id}, f"{LIMITS}members/{member.user.id}/"),
        ({"key_id": key.id}, f"{KEYS}{key.id}/limits/"),
        ({}, LIMITS),
    ):
        limits_set(org=member.org, values={"budget_day_picousd": PICO_PER_USD}, actor=member.actor, **whose)
        for form in ({"budget_day": "2"}, {"budget_day": ""}):
            assert is_asked(stale.post(path, form), path)
            part = stale.post(path, form, headers={"HX-Request": "true"})
            assert (part.status_code, part["HX-Redirect"]) == (204, f"{AGAIN}?{urlencode({'next': path})}")
        assert limits_get(org=member.org, **whose).budget_day_picousd == PICO_PER_USD


@pytest.mark.usefixtures("payments_on")
def test_paying_asks_and_switching_off_does_not(member: Member, stale: Client):
    customer_known(owner_id=member.org.id, customer_id="cus_1")
    card_apply({"id": "pm_1", "customer": "cus_1", "card": {"brand": "visa", "last4": "4242"}})
    (card,) = card_list(owner_id=member.org.id)
    auto = {"threshold": "5", "amount": "20", "monthly_cap": "100"}
    for path, form in (
        ("/console/billing/add/", {"amount": "20"}),
        ("/console/billing/auto/", auto),
        (f"/console/billing/cards/{card.id}/remove/", {}),
    ):
        assert is_asked(stale.post(path, form), path)
    assert is_asked(stale.get("/console/billing/portal/"), "/console/billing/portal/")
    assert (
        not payment_list(owner_id=member.org.id).exists() and auto_topup_get(owner_id=member.org.id) is None
    )
    assert card_list(owner_id=member.org.id).count() == 1
    assert stale.post("/console/billing/auto/off/").status_code == 303
    stale.post("/console/billing/auto/", auto)
    confirm(stale, "/console/billing/auto/")
    wish = auto_topup_get(owner_id=member.org.id)
    assert wish is not None and wish.enabled


def test_addresses_ask(member: Member, stale: Client):
    path = "/accounts/email/"
    assert stale.get(path).status_code == 200
    form = {"action_add": "", "email": "second@example.com"}
    assert is_asked(stale.post(path, form), path)
    assert not member.user.emailaddress_set.filter(email="second@example.com").exists()
    confirm(stale, path)
    assert member.user.emailaddress_set.filter(email="second@example.com").exists()
    aged(stale)
    assert is_asked(stale.post(path, {"action_remove": "", "email": "second@example.com"}), path)
    assert member.user.emailaddress_set.filter(email="second@example.com").exists()


def test_the_api_asks_a_session_and_not_a_key(member: Member, stale: Client):
    limits_set(org=member.org, values={"budget_day_picousd": PICO_PER_USD}, actor=member.actor)
    json = "application/json"
    calls = [
        stale.post("/api/v1/keys", NEW, json),
        stale.patch("/api/v1/limits", {"budget_day_usd": "2"}, json),
        stale.put("/api/v1/auto-topup", {}, json),
        stale.patch("/api/v1/organisation", {"mfa_required": True}, json),
    ]
    codes = [(call.status_code, call.json()["error"]["code"]) for call in calls]
    assert codes == [(403, "reauthentication_required")] * 4
    assert limits_get(org=member.org).budget_day_picousd == PICO_PER_USD and names(member) == []
    assert stale.patch("/api/v1/limits", {"budget_day_usd": "0.5"}, json).status_code == 200
    confirm(stale, "/console/")
    made = stale.post("/api/v1/keys", {"name": "k", "scopes": ["manage"]}, json)
    assert made.status_code == 201
    key = {"Authorization": f"Bearer {made.json()['key']}"}
    assert Client().patch("/api/v1/limits", {"budget_day_usd": "2"}, json, headers=key).status_code == 200
    refused = Client().patch("/api/v1/organisation", {"mfa_required": True}, json, headers=key)
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "mfa_missing")


def test_a_form_that_was_left_is_not_taken_by_another_confirmation(member: Member, stale: Client):
    path = "/console/settings/delete/"
    stale.post(path, {"confirm": member.org.slug})
    stale.get(path)
    confirm(stale, path)
    member.org.refresh_from_db()
    assert member.org.deleting_at is None
