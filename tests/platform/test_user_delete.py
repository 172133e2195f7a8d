"""A person deletes their account: nothing tells them any more, their organisations go on or go with them."""

from datetime import timedelta

import pytest
from allauth.account.models import EmailAddress
from allauth.mfa.models import Authenticator
from allauth.socialaccount.models import SocialAccount
from allauth.usersessions.models import UserSession
from django.contrib.sessions.models import Session
from django.test import Client

from kindling_billing.payments import payment_received
from kindling_departures import furnish, left_of
from kindling_gpu_time import gpu_price
from kindling_people import PASSWORD, Customer, make_customer, make_model
from kindling_platform.accounts.credit import MAX_PER_ADDRESS, TOO_MANY
from kindling_platform.accounts.models import DELETED_DOMAIN, Membership, Organisation, User
from kindling_platform.accounts.services import user_register
from kindling_platform.accounts.suspension import organisation_suspend
from kindling_platform.audit.models import AuditEvent
from kindling_platform.common.clock import now
from kindling_platform.common.errors import KindlingError
from kindling_platform.departures.organisations import organisations_clear
from kindling_platform.departures.persons import origins_forget, place_list, user_delete
from kindling_platform.keys.models import ApiKey
from kindling_platform.keys.services import key_create

pytestmark = pytest.mark.django_db


def delete(person: Customer, **changes) -> None:
    given = {"typed": person.user.email, "keep_keys": False} | changes
    user_delete(user=person.user, actor=person.actor, **given)


def join(person: Customer, other: Customer, role: str = "developer") -> None:
    Membership.objects.create(user=person.user, organisation=other.org, role=role)


def refusal(work) -> KindlingError:
    with pytest.raises(KindlingError) as caught:
        work()
    return caught.value


def test_nothing_of_the_row_tells_who_it_was(ada: Customer):
    user, address = ada.user, ada.user.email
    User.objects.filter(id=user.id).update(
        name="Ada L.", signup_ip="192.0.2.1", last_login=now(), created_at=now() - timedelta(days=2)
    )
    EmailAddress.objects.create(user=user, email=address, verified=True, primary=True)
    Authenticator.objects.create(user=user, type="totp", data={"secret": "x"})
    SocialAccount.objects.create(user=user, provider="oidc", uid="1", extra_data={"email": address})
    delete(ada)
    row = User.objects.get(id=user.id)
    assert row.email.startswith(f"{user.id}.") and row.email.endswith(f"@{DELETED_DOMAIN}")
    assert (row.name, row.signup_ip, row.last_login) == ("", None, None)
    assert (row.is_active, row.is_staff, row.has_usable_password()) == (False, False, False)
    assert not EmailAddress.objects.filter(email=address).exists()
    assert not Authenticator.objects.filter(user=user).exists()
    assert not SocialAccount.objects.filter(user=user).exists()
    assert not Membership.objects.filter(user=user).exists()
    event = AuditEvent.objects.get(action="user.deleted")
    assert (event.actor_id, event.target) == (user.id, user.id)


def test_every_session_ends_and_the_address_may_sign_up_again(
    ada: Customer, django_capture_on_commit_callbacks
):
    listed, unlisted = Client(), Client()
    sign_in = {"login": ada.user.email, "password": PASSWORD}
    assert listed.post("/accounts/login/", sign_in).status_code == 302
    unlisted.force_login(ada.user)
    UserSession.objects.filter(user=ada.user).exclude(session_key=listed.session.session_key).delete()
    assert listed.get("/console/").status_code == unlisted.get("/console/").status_code == 200
    with django_capture_on_commit_callbacks(execute=True):
        delete(ada)
    assert listed.get("/console/").status_code == unlisted.get("/console/").status_code == 302
    assert not UserSession.objects.filter(user=ada.user).exists()
    assert not [one for one in Session.objects.all() if one.get_decoded().get("_auth_user_id") == ada.user.id]
    assert Client().post("/accounts/login/", sign_in).status_code == 200
    again = user_register(email=ada.user.email, password=PASSWORD)
    assert again.id != ada.user.id and again.is_active
    assert Membership.objects.get(user=again).organisation_id != ada.org.id


def test_who_is_alone_takes_the_organisation_along(ada: Customer, operator: Customer):
    model = make_model(operator, priced=False)
    gpu_price(model.id)
    furnish(ada, model)
    (place,) = place_list(user=ada.user)
    assert place.goes_too and place.others == 0 and place.obstacles == ()
    delete(ada)
    org = Organisation.objects.get(id=ada.org.id)
    assert org.deleting_at
    Organisation.objects.filter(id=org.id).update(deleting_at=org.deleting_at - timedelta(minutes=1))
    assert organisations_clear() == [ada.org.id]
    assert set(left_of(ada).values()) == {0}
    # Nobody made an organisation for somebody who is gone.
    assert not Membership.objects.filter(user=ada.user).exists()


@pytest.mark.parametrize("keep_keys", [True, False])
def test_where_others_are_it_goes_on(ada: Customer, bob: Customer, keep_keys: bool):
    join(ada, bob)
    key = key_create(org=bob.org, name="ci", scopes=["inference"], actor=ada.actor)[0]
    theirs = key_create(org=bob.org, name="own", scopes=["inference"], actor=bob.actor)[0]
    assert [(place.goes_too, place.live_keys) for place in place_list(user=ada.user)] == [
        (True, 0),
        (False, 1),
    ]
    delete(ada, keep_keys=keep_keys)
    assert (ApiKey.objects.get(id=key.id).revoked_at is None) is keep_keys
    assert ApiKey.objects.get(id=theirs.id).revoked_at is None
    assert Organisation.objects.get(id=bob.org.id).deleting_at is None
    assert [one.user_id for one in Membership.objects.filter(organisation=bob.org)] == [bob.user.id]


def test_the_only_owner_hands_over_first(ada: Customer, bob: Customer):
    join(bob, ada, "admin")
    error = refusal(lambda: delete(ada))
    assert (error.code, error.status) == ("last_owner", 409) and ada.org.name in error.message
    assert User.objects.get(id=ada.user.id).is_active
    Membership.objects.filter(user=bob.user, organisation=ada.org).update(role="owner")
    delete(ada)
    assert Organisation.objects.get(id=ada.org.id).deleting_at is None


def test_the_operators_last_account_stays(operator: Customer, ada: Customer):
    assert refusal(lambda: delete(operator)).code == "last_operator"
    join(ada, operator, "admin")
    assert refusal(lambda: delete(operator)).code == "last_operator"
    Membership.objects.filter(user=ada.user, organisation=operator.org).update(role="owner")
    delete(operator)
    row = User.objects.get(id=operator.user.id)
    assert (row.is_active, row.is_staff, row.is_superuser) == (False, False, False)
    assert Organisation.objects.get(id=operator.org.id).deleting_at is None


def test_conditions_of_the_organisation_hold_and_nothing_is_half_done(
    ada: Customer, bob: Customer, operator: Customer
):
    join(ada, bob)
    payment_received(intent_id="pi_1", owner_id=ada.org.id, amount_cents=1000)
    assert refusal(lambda: delete(ada)).code == "balance_left"
    assert refusal(lambda: delete(ada, give_up_cents={ada.org.id: 999})).code == "balance_left"
    assert refusal(lambda: delete(ada, give_up_cents={bob.org.id: 1000})).code == "balance_left"
    organisation_suspend(org=ada.org, reason="Fraud?", actor=operator.actor)
    assert refusal(lambda: delete(ada, give_up_cents={ada.org.id: 1000})).code == "account_suspended"
    assert Membership.objects.filter(user=ada.user).count() == 2
    assert User.objects.get(id=ada.user.id).email == ada.user.email
    Organisation.objects.filter(id=ada.org.id).update(suspended_at=None)
    delete(ada, give_up_cents={ada.org.id: 1000})
    assert not User.objects.get(id=ada.user.id).is_active


def test_only_the_own_address_confirms(ada: Customer, bob: Customer):
    for typed in ("", bob.user.email, ada.org.slug):
        assert refusal(lambda typed=typed: delete(ada, typed=typed)).code == "confirmation_wrong"
    delete(ada, typed=f" {ada.user.email.upper()} ")
    assert not User.objects.get(id=ada.user.id).is_active


def test_again_changes_nothing(ada: Customer):
    delete(ada)
    row = User.objects.get(id=ada.user.id)
    user_delete(user=row, typed=row.email, keep_keys=False, actor=ada.actor)
    assert User.objects.get(id=ada.user.id).email == row.email
    assert AuditEvent.objects.filter(action="user.deleted").count() == 1


def test_signing_up_and_deleting_in_turns_harvests_no_credit(db: None):
    notes = []
    for number in range(MAX_PER_ADDRESS + 1):
        user = user_register(email=f"again{number}@example.test", password=PASSWORD, ip="192.0.2.9")
        org = Membership.objects.get(user=user).organisation
        notes.append(org.signup_credit_note)
        delete(Customer(user, org))
    assert notes == [""] * MAX_PER_ADDRESS + [TOO_MANY]
    # Where somebody came from is forgotten once it cannot tell anything any more.
    assert origins_forget() == 0
    User.objects.update(created_at=now() - timedelta(hours=2))
    assert origins_forget() == MAX_PER_ADDRESS + 1
    assert not User.objects.filter(email__endswith=DELETED_DOMAIN).exclude(signup_ip=None).exists()


def test_others_keep_their_accounts(ada: Customer):
    other = make_customer("other")
    before = User.objects.filter(id=other.user.id).values().get()
    delete(ada)
    assert User.objects.filter(id=other.user.id).values().get() == before
