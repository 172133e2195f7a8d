"""Members over the API: who they are, what their keys have spent, and who may read it."""

import json

import pytest
from allauth.mfa.models import Authenticator
from allauth.mfa.totp.internal.auth import TOTP, generate_totp_secret

from kindling_billing.selectors import price_current
from kindling_people import Customer, make_customer, make_model, make_record
from kindling_platform.accounts.models import Membership
from kindling_platform.common.clock import now
from kindling_platform.keys.services import key_create
from kindling_platform.usage.services import usage_ingest

pytestmark = pytest.mark.django_db


@pytest.fixture
def friend(ada: Customer) -> Customer:
    """A developer of ada's organisation."""
    made = make_customer("friend")
    Membership.objects.filter(user=made.user).update(organisation=ada.org, role="developer")
    return Customer(made.user, ada.org)


def test_members_and_what_their_keys_have_spent(
    ada: Customer, friend: Customer, operator: Customer, bob: Customer
):
    model = make_model(operator)
    price = price_current(sku=model.id)
    assert price
    key, _ = key_create(org=ada.org, name="theirs", scopes=["inference"], actor=friend.actor)
    facts = json.loads(make_record(ada.org.id, model, price).context) | {"key": key.id}
    at_ms = int(now().timestamp() * 1000)
    record = make_record(
        ada.org.id, model, price, context=json.dumps(facts), started_ms=at_ms, first_token_ms=at_ms,
        finished_ms=at_ms,
    )  # fmt: skip
    usage_ingest(source="r", log_id="l", after=0, records=[record], next_offset=1)
    first = ada.client().call("get", "members?limit=1").json()
    rest = ada.client().call("get", f"members?limit=1&cursor={first['next_cursor']}").json()
    rows = {row["id"]: row for row in first["data"] + rest["data"]}
    assert set(rows) == {ada.user.id, friend.user.id}
    theirs, hers = rows[friend.user.id], rows[ada.user.id]
    assert (theirs["email"], theirs["role"], hers["role"]) == (friend.user.email, "developer", "owner")
    assert int(theirs["spent_month_picousd"]) == int(theirs["spent_total_picousd"]) > 0
    assert hers["spent_total_usd"] == "0.00"
    assert ada.client().call("get", f"members/{theirs['id']}/limits").status_code == 200
    (own,) = bob.client().call("get", "members").json()["data"]
    assert own["id"] == bob.user.id


def test_who_manages_members_sees_who_has_a_second_factor(ada: Customer, friend: Customer, bob: Customer):
    TOTP.activate(friend.user, generate_totp_secret())
    # Recovery codes alone are none, and what others have is nobody's business.
    Authenticator.objects.create(user=ada.user, type=Authenticator.Type.RECOVERY_CODES, data={})
    TOTP.activate(bob.user, generate_totp_secret())

    def seen(caller) -> dict[str, object]:
        return {row["id"]: row["second_factor"] for row in caller.call("get", "members").json()["data"]}

    assert seen(ada.client()) == seen(ada.browser()) == {ada.user.id: False, friend.user.id: True}
    made = ada.browser().call("patch", f"members/{friend.user.id}", {"role": "viewer"}).json()
    assert (made["role"], made["second_factor"]) == ("viewer", True)
    assert seen(friend.browser()) == {ada.user.id: None, friend.user.id: None}
    assert seen(ada.client("read")) == {ada.user.id: None, friend.user.id: None}


def test_who_does_the_billing_alone_does_not_see_the_team(ada: Customer):
    ada.user.memberships.update(role="billing")
    reply = ada.browser().call("get", "members")
    assert (reply.status_code, reply.json()["error"]["code"]) == (403, "role_insufficient")
