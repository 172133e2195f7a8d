"""Invitations and roles: who may give which, what a link is worth, and that an organisation always has an owner."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from allauth.account.models import EmailAddress
from django.db import connection, transaction

from kindling_people import Customer, make_customer, make_operator
from kindling_platform.accounts import invitations
from kindling_platform.accounts.invitations import (
    invitation_accept,
    invitation_create,
    invitation_find,
    invitation_list,
    invitation_withdraw,
)
from kindling_platform.accounts.models import Invitation, Membership
from kindling_platform.accounts.selectors import organisation_get_for_user
from kindling_platform.accounts.team import member_role_set
from kindling_platform.audit.models import AuditEvent
from kindling_platform.common.clock import now
from kindling_platform.common.errors import KindlingError
from kindling_platform.keys.leaving import member_remove
from kindling_platform.keys.limits import limits_set
from kindling_platform.keys.models import ApiKey, LimitSet
from kindling_platform.keys.services import key_create

pytestmark = pytest.mark.django_db


@pytest.fixture
def ada(db: None) -> Customer:
    return make_customer("ada")


@pytest.fixture
def bob(db: None) -> Customer:
    return make_customer("bob")


def invite(by: Customer, email: str, role: str = "developer", **fields) -> str:
    return invitation_create(org=by.org, email=email, role=role, actor=by.actor, **fields)[1]


def join(by: Customer, who: Customer, role: str = "developer") -> Membership:
    return invitation_accept(text=invite(by, who.user.email, role, may_own=True), user=who.user)


def refusal(call, **asked) -> str:
    with pytest.raises(KindlingError) as refused:
        call(**asked)
    return refused.value.code


def actions(org_id: str) -> list[str]:
    rows = AuditEvent.objects.filter(organisation_id=org_id).order_by("created_at", "id")
    return list(rows.values_list("action", flat=True))


def test_an_invitation_makes_a_member_once(ada: Customer, bob: Customer):
    text = invite(ada, f"  {bob.user.email.upper()} ")
    member = invitation_accept(text=text, user=bob.user)
    assert (member.organisation_id, member.role) == (ada.org.id, "developer")
    assert refusal(invitation_accept, text=text, user=bob.user) == "invitation_over"
    assert list(invitation_list(org=ada.org)) == []
    assert actions(ada.org.id)[-2:] == ["invitation.created", "member.joined"]
    # The own organisation stays where somebody works until they choose another.
    assert organisation_get_for_user(user=bob.user)[0] == bob.org
    assert organisation_get_for_user(user=bob.user, chosen=ada.org.id)[0] == ada.org
    assert organisation_get_for_user(user=bob.user, chosen="org_of_nobody")[0] == bob.org


def test_an_address_that_was_confirmed_later_is_theirs_too(ada: Customer, bob: Customer):
    second = EmailAddress.objects.create(user=bob.user, email="second@example.test", verified=False)
    text = invite(ada, "Second@Example.test")
    assert refusal(invitation_accept, text=text, user=bob.user) == "invitation_for_another"
    second.verified = True
    second.save()
    assert invitation_accept(text=text, user=bob.user).organisation_id == ada.org.id
    assert refusal(invite, by=ada, email="second@example.test") == "member_exists"


def test_the_link_is_stored_nowhere_and_holds_for_one_address(ada: Customer, bob: Customer):
    text = invite(ada, "carol@example.test")
    (row,) = Invitation.objects.values()
    assert text.encode() not in repr(row).encode()
    assert refusal(invitation_accept, text=text, user=bob.user) == "invitation_for_another"
    assert refusal(invitation_accept, text=text + "x", user=bob.user) == "not_found"
    assert invitation_find(text=text).email == "carol@example.test"


def test_a_link_ends_with_its_week_its_withdrawal_and_a_newer_one(ada: Customer, bob: Customer):
    first = invite(ada, bob.user.email)
    second = invite(ada, bob.user.email, "viewer")
    assert refusal(invitation_accept, text=first, user=bob.user) == "invitation_over"
    (waiting,) = invitation_list(org=ada.org)
    invitation_withdraw(org=ada.org, invitation_id=waiting.id, actor=ada.actor)
    invitation_withdraw(org=ada.org, invitation_id=waiting.id, actor=ada.actor)
    assert actions(ada.org.id).count("invitation.withdrawn") == 1
    assert refusal(invitation_accept, text=second, user=bob.user) == "invitation_over"
    third = invite(ada, bob.user.email)
    Invitation.objects.filter(ended_at=None).update(expires_at=now() - timedelta(seconds=1))
    assert refusal(invitation_accept, text=third, user=bob.user) == "invitation_over"
    assert refusal(invitation_withdraw, org=bob.org, invitation_id=waiting.id, actor=bob.actor) == "not_found"


@pytest.mark.parametrize(
    ("email", "role", "code"),
    [
        ("nobody", "viewer", "email_invalid"),
        ("", "viewer", "email_invalid"),
        ("x@example.test\nBcc: y@example.test", "viewer", "email_invalid"),
        ("x@example.test", "king", "role_invalid"),
        ("x@example.test", "owner", "role_forbidden"),
    ],
)
def test_what_cannot_be_invited(ada: Customer, email: str, role: str, code: str):
    asked = {"org": ada.org, "email": email, "role": role, "actor": ada.actor}
    assert refusal(invitation_create, **asked) == code
    assert not Invitation.objects.exists()


def test_members_are_not_invited_again(ada: Customer, bob: Customer):
    join(ada, bob)
    asked = {"org": ada.org, "email": bob.user.email, "role": "viewer", "actor": ada.actor}
    assert refusal(invitation_create, **asked) == "member_exists"


def test_invitations_are_bounded_at_once_and_by_the_day(ada: Customer, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(invitations, "MOST_OPEN", 2)
    monkeypatch.setattr(invitations, "MOST_A_DAY", 3)
    asked = {"org": ada.org, "email": "c@example.test", "role": "viewer", "actor": ada.actor}
    invite(ada, "a@example.test"), invite(ada, "b@example.test")
    assert refusal(invitation_create, **asked) == "invitation_limit_reached"
    # Anew for the same address: one more of this day, but not one more that waits.
    invite(ada, "b@example.test")
    Invitation.objects.filter(email="a@example.test").update(ended_at=now())
    assert refusal(invitation_create, **asked) == "invitation_limit_reached"
    Invitation.objects.update(created_at=now() - timedelta(days=2))
    assert invite(ada, "c@example.test")


def test_roles_change_and_owners_are_the_owners_business(ada: Customer, bob: Customer):
    join(ada, bob)
    asked = {"org": ada.org, "actor": ada.actor}
    assert member_role_set(user_id=bob.user.id, role="admin", **asked).role == "admin"
    assert refusal(member_role_set, user_id=bob.user.id, role="owner", **asked) == "role_forbidden"
    assert refusal(member_role_set, user_id=ada.user.id, role="viewer", **asked) == "role_forbidden"
    owning = asked | {"may_own": True}
    assert refusal(member_role_set, user_id=ada.user.id, role="viewer", **owning) == "last_owner"
    member_role_set(user_id=bob.user.id, role="owner", **owning)
    assert member_role_set(user_id=ada.user.id, role="viewer", **owning).role == "viewer"
    assert refusal(member_role_set, user_id=bob.user.id, role="king", **owning) == "role_invalid"
    assert actions(ada.org.id).count("member.role_changed") == 3


def test_who_runs_the_installation_is_the_owners_business_too(bob: Customer):
    operator = make_operator()
    asked = {"org": operator.org, "email": bob.user.email, "actor": operator.actor}
    assert refusal(invitation_create, role="admin", **asked) == "role_forbidden"
    join(operator, bob, "admin")
    leaving = {"org": operator.org, "user_id": bob.user.id, "actor": operator.actor}
    assert refusal(member_remove, keep_keys=False, **leaving) == "role_forbidden"
    assert refusal(member_role_set, role="viewer", **leaving) == "role_forbidden"
    assert member_role_set(role="viewer", may_own=True, **leaving).role == "viewer"


@pytest.mark.parametrize("keep", [False, True])
def test_who_is_removed_leaves_limits_and_maybe_keys(ada: Customer, bob: Customer, keep: bool):
    join(ada, bob)
    theirs, _ = key_create(org=ada.org, name="theirs", scopes=["inference"], actor=bob.actor)
    played, _ = key_create(
        org=ada.org, name="p", scopes=["inference"], actor=bob.actor, kind=ApiKey.Kind.PLAYGROUND
    )
    hers, _ = key_create(org=ada.org, name="hers", scopes=["inference"], actor=ada.actor)
    own, _ = key_create(org=bob.org, name="own", scopes=["inference"], actor=bob.actor)
    limits_set(org=ada.org, values={"requests_per_minute": 5}, actor=ada.actor, member_id=bob.user.id)
    revoked = member_remove(org=ada.org, user_id=bob.user.id, actor=ada.actor, keep_keys=keep)
    assert revoked == (0 if keep else 1)
    live = ApiKey.objects.filter(revoked_at=None, id__in=[one.id for one in (theirs, played, hers, own)])
    assert {key.name for key in live} == {"hers", "own"} | ({"theirs"} if keep else set())
    assert not LimitSet.objects.filter(member_id=bob.user.id).exists()
    assert organisation_get_for_user(user=bob.user, chosen=ada.org.id)[0] == bob.org
    event = AuditEvent.objects.get(action="member.removed")
    assert event.data["keys"] == ("kept" if keep else "revoked")
    assert (
        refusal(member_remove, org=ada.org, user_id=bob.user.id, actor=ada.actor, keep_keys=keep)
        == "not_found"
    )


def test_who_is_removed_leaves_no_way_in_behind(ada: Customer, bob: Customer):
    join(ada, bob, "admin")
    theirs, hers = invite(bob_at(ada, bob), "back@example.test"), invite(ada, "other@example.test")
    member_remove(org=ada.org, user_id=bob.user.id, actor=ada.actor, keep_keys=True)
    assert refusal(invitation_find, text=theirs) == "invitation_over"
    assert invitation_find(text=hers).email == "other@example.test"


@pytest.mark.django_db(transaction=True)
def test_accepting_waits_for_nobody_who_invites(ada: Customer, bob: Customer):
    """Whoever invites holds the organisation; a new member only refers to it."""
    text = invite(ada, bob.user.email)
    with transaction.atomic():
        invite(ada, "other@example.test")
        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(accept_apart, text, bob).result(timeout=60) == "developer"


def accept_apart(text: str, who: Customer) -> str:
    """Accept over a connection of its own, which gives up rather than wait."""
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("SET LOCAL lock_timeout = '5s'")
            return invitation_accept(text=text, user=who.user).role
    finally:
        connection.close()


def bob_at(ada: Customer, bob: Customer) -> Customer:
    return Customer(bob.user, ada.org)


def test_nobody_is_left_without_an_organisation(ada: Customer, bob: Customer):
    join(ada, bob)
    Membership.objects.filter(user=bob.user, organisation=bob.org).delete()
    member_remove(org=ada.org, user_id=bob.user.id, actor=ada.actor, keep_keys=False)
    org, membership = organisation_get_for_user(user=bob.user)
    assert membership.role == "owner"
    assert org not in (ada.org, bob.org)


def test_the_last_owner_stays(ada: Customer, bob: Customer):
    join(ada, bob)
    asked = {"org": ada.org, "user_id": ada.user.id, "actor": ada.actor, "keep_keys": False}
    assert refusal(member_remove, may_own=True, **asked) == "last_owner"
    member_role_set(org=ada.org, user_id=bob.user.id, role="owner", actor=ada.actor, may_own=True)
    member_remove(may_own=True, **asked)
    assert [one.user for one in Membership.objects.filter(organisation=ada.org)] == [bob.user]
