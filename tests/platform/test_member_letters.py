"""Letters to members in person: whoever lacks a second factor that is asked for, and those whose organisation ends."""

from datetime import timedelta

import pytest
from allauth.mfa.models import Authenticator
from allauth.mfa.totp.internal.auth import TOTP, generate_totp_secret
from django.core import mail

from kindling_billing.models import Notice
from kindling_people import Customer, make_customer
from kindling_platform.accounts.letters import letters_send
from kindling_platform.accounts.member_letters import webhook_off_note
from kindling_platform.accounts.models import Membership, Organisation
from kindling_platform.accounts.second_factors import mfa_required_set
from kindling_platform.departures.organisations import SETTLED, organisation_clear, organisation_delete
from kindling_platform.departures.persons import user_delete
from kindling_platform.deployments.credit import running_hour_picousd
from kindling_platform.records.letters import letter_list

pytestmark = pytest.mark.django_db


def member(name: str, of: Customer, role: str) -> Customer:
    made = make_customer(name)
    Membership.objects.filter(user=made.user).update(organisation=of.org, role=role)
    return Customer(made.user, of.org)


def sent() -> dict[str, mail.EmailMessage]:
    """The letters that go out now, by address; nobody gets two."""
    mail.outbox.clear()
    letters_send(hour_cost=running_hour_picousd)
    found = {one.to[0]: one for one in mail.outbox}
    assert len(found) == len(mail.outbox)
    return found


def switch(ada: Customer, required: bool) -> None:
    mfa_required_set(org=ada.org, required=required, person_id=ada.user.id, actor=ada.actor)
    ada.org.refresh_from_db()


def test_who_lacks_a_second_factor_is_told_from_when_and_where(ada: Customer, bob: Customer):
    with_app, without = member("with", ada, "billing"), member("without", ada, "viewer")
    codes_alone, gone = member("codes", ada, "admin"), member("gone", ada, "developer")
    for one in (ada, with_app):
        TOTP.activate(one.user, generate_totp_secret())
    Authenticator.objects.create(user=codes_alone.user, type=Authenticator.Type.RECOVERY_CODES, data={})
    switch(ada, True)
    user_delete(user=gone.user, typed=gone.user.email, keep_keys=False, actor=gone.actor)
    assert {letter.to[0] for letter in letter_list(state="waiting") if letter.to} == {
        without.user.email, codes_alone.user.email,
    }  # fmt: skip
    letters = sent()
    assert set(letters) == {without.user.email, codes_alone.user.email}
    said = letters[without.user.email]
    assert said.subject == f"{ada.org.name} asks a second factor of you"
    assert "/console/account/second-factor/" in said.body and " UTC, and you have none." in said.body
    # However often it is switched, it is one letter a day.
    switch(ada, False)
    switch(ada, True)
    assert sent() == {}


def test_who_leaves_before_a_letter_goes_gets_none(ada: Customer):
    left, stays, added = (member(name, ada, "admin") for name in ("left", "stays", "added"))
    TOTP.activate(ada.user, generate_totp_secret())
    switch(ada, True)
    reason = {"webhook_id": "whk_1", "host": "hooks.example.com", "reason": "410."}
    webhook_off_note(organisation_id=ada.org.id, key="whk_1", **reason)
    Membership.objects.filter(user=left.user).delete()
    Membership.objects.filter(user=added.user).update(role="viewer")
    TOTP.activate(added.user, generate_totp_secret())
    mail.outbox.clear()
    letters_send(hour_cost=running_hour_picousd)
    told = {(to, one.subject.split()[0]) for one in mail.outbox for to in one.to + one.bcc}
    assert told == {
        (stays.user.email, ada.org.name.split()[0]),
        (stays.user.email, "A"),
        (ada.user.email, "A"),
    }


def test_who_runs_an_organisation_is_told_of_its_end_and_nobody_else(ada: Customer, bob: Customer):
    owner, admin = member("second", ada, "owner"), member("admin", ada, "admin")
    member("viewer", ada, "viewer")
    for _ in range(2):
        organisation_delete(org=ada.org, typed=ada.org.slug, actor=ada.actor)
    begun = sent()
    told = {one.user.email for one in (ada, owner, admin)}
    assert set(begun) == told
    said = begun[admin.user.email]
    assert said.subject == f"The organisation {ada.org.slug} is being deleted"
    assert f"{ada.user.email} deleted" in said.body and "cannot be undone" in said.body
    Organisation.objects.filter(id=ada.org.id).update(deleting_at=ada.org.created_at - SETTLED - timedelta(1))
    assert organisation_clear(org=ada.org) and not organisation_clear(org=ada.org)
    done = sent()
    assert set(done) == told and "is deleted" in done[owner.user.email].subject
    assert sent() == {}


def test_who_deletes_their_account_with_it_is_kept_nowhere(ada: Customer):
    email = ada.user.email
    user_delete(user=ada.user, typed=email, keep_keys=False, actor=ada.actor, give_up_cents={ada.org.id: 0})
    assert sent() == {}
    assert email not in str(list(Notice.objects.values()))
