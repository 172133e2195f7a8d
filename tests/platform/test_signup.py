"""Signing up through the real form: user, organisation, credit, and the bounds of that credit."""

import pytest
from allauth.account.models import EmailAddress
from django.contrib.admin import site
from django.contrib.auth.hashers import make_password
from django.core.cache import cache
from django.test import Client
from django.urls import reverse

from kindling_billing.selectors import balance_get, ledger_sum
from kindling_people import PASSWORD, Customer
from kindling_platform.accounts import credit
from kindling_platform.accounts.models import Membership, Organisation, User
from kindling_platform.accounts.roles import OPERATOR, ROLE_ACTIONS, can
from kindling_platform.accounts.selectors import organisation_get_for_user
from kindling_platform.accounts.services import operator_ensure, operator_password_reset, user_register
from kindling_platform.common.errors import KindlingError
from kindling_platform.common.slugs import RESERVED, slug_from
from kindling_platform.config.settings import PASSWORD_HASHERS

pytestmark = pytest.mark.django_db
DOLLAR = 10**12


@pytest.fixture(scope="module")
def kept_rows() -> bool:
    """Tests look who has signed up."""
    return False


def sign_up(email: str, *, password: str = PASSWORD, ip: str = "127.0.0.1"):
    client = Client(REMOTE_ADDR=ip)
    form = {"email": email, "password1": password, "password2": password}
    return client, client.post("/accounts/signup/", form)


def test_the_form_makes_user_organisation_and_credit_and_signs_in():
    client, reply = sign_up("Ada.Lovelace@Example.test")
    assert (reply.status_code, reply["Location"]) == (302, "/console/"), reply.content
    user = User.objects.get()
    org, membership = organisation_get_for_user(user=user)
    assert (user.email, org.slug, membership.role) == ("ada.lovelace@example.test", "ada-lovelace", "owner")
    assert balance_get(owner_id=org.id).picousd == DOLLAR
    assert ledger_sum() == 0
    assert user.check_password(PASSWORD)
    assert EmailAddress.objects.get(user=user).email == user.email
    assert client.get("/api/v1/me").json()["organisation"]["slug"] == "ada-lovelace"


@pytest.mark.parametrize("password", ["short", "password123", "1234567890", ""])
def test_a_weak_password_is_refused_and_nothing_is_made(password: str):
    _, reply = sign_up("ada@example.test", password=password)
    assert reply.status_code == 200
    assert (User.objects.count(), Organisation.objects.count()) == (0, 0)


def test_passwords_are_kept_by_argon2_and_those_from_before_at_the_next_sign_in(settings):
    settings.PASSWORD_HASHERS = PASSWORD_HASHERS
    sign_up("ada@example.test")
    user = User.objects.get(email="ada@example.test")
    assert user.password.startswith("argon2$argon2id$v=19$m=19456,t=2,p=1$")
    user.password = make_password(PASSWORD, hasher="pbkdf2_sha256")
    user.save()
    form = {"login": user.email, "password": PASSWORD}
    assert Client().post("/accounts/login/", form | {"password": "wrong"}).status_code == 200
    assert User.objects.get(id=user.id).password == user.password
    assert Client().post("/accounts/login/", form).status_code == 302
    user.refresh_from_db()
    assert user.password.startswith("argon2$") and user.check_password(PASSWORD)


def test_an_address_signs_up_once_whatever_its_case():
    sign_up("ada@example.test")
    _, reply = sign_up("ADA@example.test")
    assert reply.status_code == 200
    assert User.objects.count() == 1
    with pytest.raises(KindlingError) as refused:
        user_register(email="Ada@Example.Test", password=PASSWORD)
    assert refused.value.code == "email_taken"


def test_the_same_name_at_two_providers_gets_two_slugs():
    for host in ("a", "b", "c"):
        user_register(email=f"ada@{host}.test", password=PASSWORD)
    slugs = set(Organisation.objects.values_list("slug", flat=True))
    assert len(slugs) == 3
    assert all(slug == "ada" or slug.startswith("ada-") for slug in slugs)


@pytest.mark.parametrize("word", sorted(RESERVED))
def test_reserved_names_are_never_given_away(word: str):
    user = user_register(email=f"{word}@example.test", password=PASSWORD)
    assert organisation_get_for_user(user=user)[0].slug not in RESERVED


@pytest.mark.parametrize("text", ["", "…", "Ünïcode Straße", "a" * 200, "--", "V1"])
def test_a_slug_is_never_empty_reserved_or_long(text: str):
    for distinct in (False, True):
        slug = slug_from(text, distinct=distinct)
        assert 1 <= len(slug) <= 48
        assert slug not in RESERVED
        assert slug.strip("-") == slug


def balances() -> list[int]:
    return [balance_get(owner_id=org.id).picousd for org in Organisation.objects.order_by("id")]


def test_one_address_gets_credit_a_few_times_an_hour(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(credit, "MAX_PER_ADDRESS", 2)
    for number in range(4):
        sign_up(f"a{number}@example.test", ip="203.0.113.9")
    sign_up("b@example.test", ip="203.0.113.10")
    assert balances() == [DOLLAR, DOLLAR, 0, 0, DOLLAR]
    notes = [bool(org.signup_credit_note) for org in Organisation.objects.order_by("id")]
    assert notes == [False, False, True, True, False]


def test_an_hour_has_an_end_to_its_credit(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(credit, "MAX_IN_ALL", 2)
    for number in range(3):
        sign_up(f"a{number}@example.test", ip=f"203.0.113.{number}")
    assert balances() == [DOLLAR, DOLLAR, 0]


def test_on_ones_own_machine_only_the_sum_is_bounded(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(credit, "MAX_PER_ADDRESS", 1)
    for number in range(3):
        sign_up(f"a{number}@example.test")
    assert balances() == [DOLLAR] * 3


def test_the_operator_is_made_once_and_can_sign_in():
    user, password = operator_ensure(email="operator@kindling.local")
    again, nothing = operator_ensure(email="operator@kindling.local")
    assert password and nothing is None and again.id == user.id
    org, membership = organisation_get_for_user(user=user)
    assert (org.slug, org.is_operator, membership.role) == ("kindling", True, "owner")
    client = Client()
    reply = client.post("/accounts/login/", {"login": user.email, "password": password})
    assert reply.status_code == 302, reply.content
    assert client.get("/admin/").status_code == 200
    _, fresh = operator_password_reset(email=user.email)
    user.refresh_from_db()
    assert user.check_password(fresh) and not user.check_password(password)


def test_an_operator_with_another_address_stays_the_operator_and_a_stranger_with_theirs_a_stranger():
    email = "operator@kindling.local"
    user, _ = operator_ensure(email=email)
    user.email = "grace@example.test"
    user.save()
    stranger = user_register(email=email, password=PASSWORD)
    assert operator_ensure(email=email) == (user, None)
    assert [one.organisation.is_operator for one in stranger.memberships.all()] == [False]
    renamed, fresh = operator_password_reset(email=email)
    stranger.refresh_from_db()
    assert renamed == user and renamed.check_password(fresh)
    assert stranger.check_password(PASSWORD) and not stranger.is_staff


def test_nobody_becomes_the_operator_by_their_address():
    stranger = user_register(email="operator@kindling.local", password=PASSWORD)
    with pytest.raises(KindlingError) as refused:
        operator_ensure(email=stranger.email)
    assert refused.value.code == "operator_address_taken"
    with pytest.raises(KindlingError) as missing:
        operator_password_reset(email=stranger.email)
    assert missing.value.code == "operator_missing"


def test_nobody_else_gets_into_the_admin(ada: Customer):
    reply = ada.browser().get("/admin/")
    assert reply.status_code in {302, 403}


def test_the_admin_changes_nothing(operator: Customer):
    browser = operator.browser()
    assert browser.get("/admin/billing/ledgerentry/").status_code == 200
    assert browser.get("/admin/billing/ledgerentry/add/").status_code == 403
    page = browser.get(f"/admin/accounts/organisation/{operator.org.id}/change/")
    assert page.status_code == 200
    assert operator.org.salt not in page.content.decode()


def test_every_list_of_the_admin_can_be_searched(operator: Customer):
    browser = operator.browser()
    lists = [
        reverse(f"admin:{model._meta.label_lower.replace('.', '_')}_changelist") for model in site._registry
    ]
    assert len(lists) > 20
    assert {browser.get(url, {"q": "x"}).status_code for url in lists} <= {200, 302}
    for hidden in ("usersessions/usersession", "mfa/authenticator", "socialaccount/socialapp"):
        assert browser.get(f"/admin/{hidden}/?q=x").status_code == 404


@pytest.mark.parametrize("role", ROLE_ACTIONS)
def test_only_the_operators_own_people_are_operators(operator: Customer, ada: Customer, role: str):
    mine = Membership(user=operator.user, organisation=operator.org, role=role)
    other = Membership(user=ada.user, organisation=ada.org, role=role)
    assert can(mine, OPERATOR) is (role in {"owner", "admin"})
    assert not can(other, OPERATOR)
    assert not can(None, "models.read")
    assert not can(other, "no.such.action")


def test_many_sign_ups_from_one_address_have_to_wait():
    cache.clear()
    statuses = {sign_up(f"no address {number}", ip="203.0.113.77")[1].status_code for number in range(60)}
    assert statuses == {200}  # the form again: it has a mistake
    assert sign_up("ada@example.test", ip="203.0.113.77")[1].status_code == 429
    assert sign_up("bob@example.test", ip="203.0.113.78")[1].status_code == 302
    assert list(User.objects.values_list("email", flat=True)) == ["bob@example.test"]
    cache.clear()
