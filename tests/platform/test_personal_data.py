"""What is known of a person, as files: all of theirs, no secret, and nothing of anybody else."""

import io
import json
import zipfile

import pytest
from allauth.account.models import EmailAddress
from allauth.mfa.models import Authenticator
from allauth.socialaccount.models import SocialAccount
from allauth.usersessions.models import UserSession

from kindling_people import Customer
from kindling_platform.accounts.invitations import invitation_create
from kindling_platform.accounts.models import Membership
from kindling_platform.audit.models import AuditEvent
from kindling_platform.audit.services import audit_record
from kindling_platform.common.actors import Actor
from kindling_platform.common.errors import KindlingError
from kindling_platform.departures import exports
from kindling_platform.departures.exports import personal_data_export
from kindling_platform.keys.leaving import member_remove
from kindling_platform.keys.limits import limits_set
from kindling_platform.keys.services import key_create
from kindling_shared import SAID, shared

pytestmark = pytest.mark.django_db


def files_of(person: Customer) -> dict:
    content = personal_data_export(user=person.user, settings={"theme": "dark"}, actor=person.actor)
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert archive.testzip() is None
        assert "What Kindling knows of you" in archive.read("README.txt").decode()
        named = [name for name in archive.namelist() if name.endswith(".json")]
        return {name.removesuffix(".json"): json.loads(archive.read(name)) for name in named}


def test_everything_of_a_person_is_in_it(ada: Customer, bob: Customer):
    key, text = key_create(org=ada.org, name="laptop", scopes=["read"], actor=ada.actor)
    EmailAddress.objects.create(user=ada.user, email=ada.user.email, verified=True, primary=True)
    Authenticator.objects.create(user=ada.user, type="totp", data={"secret": "JBSWY3DP"})
    Authenticator.objects.create(user=ada.user, type="webauthn", data={"name": "Phone", "credential": {}})
    SocialAccount.objects.create(
        user=ada.user, provider="oidc", uid="1", extra_data={"subject": "ada at work"}
    )
    UserSession.objects.create(
        user=ada.user, ip="192.0.2.3", session_key="hidden-session", user_agent="Laptop"
    )
    invitation_create(org=ada.org, email="new@example.test", role="viewer", actor=ada.actor)
    invitation_create(org=bob.org, email=ada.user.email, role="viewer", actor=bob.actor)
    limits_set(org=ada.org, member_id=ada.user.id, values={"requests_per_minute": 7}, actor=ada.actor)
    audit_record(actor=Actor(id=key.id, label="key laptop"), action="alias.set", target="als_1")
    files = files_of(ada)
    assert files["profile"]["email"] == ada.user.email and "password" not in files["profile"]
    assert files["email_addresses"] == [{"email": ada.user.email, "verified": True, "primary": True}]
    (member,) = files["memberships"]
    assert (member["organisation_slug"], member["role"]) == (ada.org.slug, "owner")
    assert files["sessions"][0]["user_agent"] == "Laptop"
    assert [(one["type"], one["name"]) for one in files["second_factors"]] == [
        ("totp", None),
        ("webauthn", "Phone"),
    ]
    assert files["linked_sign_ins"][0]["extra_data"] == {"subject": "ada at work"}
    assert [(one["name"], one["last4"]) for one in files["api_keys"]] == [("laptop", text[-4:])]
    assert [one["email"] for one in files["invitations"]["sent"]] == ["new@example.test"]
    assert [one["organisation_slug"] for one in files["invitations"]["received"]] == [bob.org.slug]
    assert files["limits"][0]["requests_per_minute"] == 7
    assert files["settings"] == {"shortcuts": True, "theme": "dark"}
    assert {"user.registered", "key.created", "limits.set", "alias.set"} <= {
        one["action"] for one in files["audit"]
    }


def test_no_secret_is_in_it(ada: Customer):
    text = key_create(org=ada.org, name="laptop", scopes=["read"], actor=ada.actor)[1]
    Authenticator.objects.create(user=ada.user, type="totp", data={"secret": "JBSWY3DP"})
    UserSession.objects.create(
        user=ada.user, ip="192.0.2.3", session_key="hidden-session", user_agent="Laptop"
    )
    said = json.dumps(files_of(ada))
    for secret in (text, text[12:-4], "JBSWY3DP", "hidden-session", ada.user.password, ada.org.salt):
        assert secret not in said


def test_nothing_of_others_is_in_it(ada: Customer, bob: Customer):
    Membership.objects.create(user=bob.user, organisation=ada.org, role="developer")
    key_create(org=ada.org, name="bobs-key", scopes=["read"], actor=bob.actor)
    key_create(org=bob.org, name="bobs-own", scopes=["read"], actor=bob.actor)
    said = json.dumps(files_of(ada))
    for hidden in (bob.user.email, bob.org.slug, "bobs-key", "bobs-own"):
        assert hidden not in said


def test_what_became_of_a_key_that_was_left_behind_is_not_told(ada: Customer, bob: Customer):
    Membership.objects.create(user=ada.user, organisation=bob.org, role="developer")
    key = key_create(org=bob.org, name="ci", scopes=["manage"], actor=ada.actor)[0]
    member_remove(org=bob.org, user_id=ada.user.id, actor=bob.actor, keep_keys=True)
    audit_record(
        actor=Actor(id=key.id, label="key ci"),
        action="alias.set",
        target="of-bob",
        organisation_id=bob.org.id,
    )
    files = files_of(ada)
    assert files["api_keys"] == []
    (left,) = files["api_keys_elsewhere"]
    assert left["name"] == "ci" and "last_used_at" not in left
    assert "of-bob" not in json.dumps(files)


def test_it_is_noted_and_not_made_twice_in_a_minute(ada: Customer, bob: Customer, monkeypatch):
    files_of(ada)
    event = AuditEvent.objects.get(action="user.data_exported")
    assert (event.actor_id, event.target) == (ada.user.id, ada.user.id)
    with pytest.raises(KindlingError) as caught:
        files_of(ada)
    assert (caught.value.code, caught.value.status) == ("export_too_soon", 429)
    assert files_of(bob)["profile"]["id"] == bob.user.id


def test_it_has_a_bound(ada: Customer, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(exports, "MOST_EVENTS", 3)
    for number in range(5):
        audit_record(actor=ada.actor, action="key.created", target=f"key_{number}")
    assert [one["target"] for one in files_of(ada)["audit"]] == ["key_4", "key_3", "key_2"]


def test_what_a_person_shares_is_in_it_and_nothing_of_colleagues(ada: Customer, bob: Customer):
    row = shared(ada)
    Membership.objects.create(user=bob.user, organisation=ada.org, role="developer")
    (told,) = files_of(ada)["shared_conversations"]
    assert (told["id"], told["title"], told["organisation_id"]) == (row.id, "Lighthouses", ada.org.id)
    assert told["conversation"]["lanes"][0]["turns"][0]["content"] == SAID
    assert files_of(bob)["shared_conversations"] == []
