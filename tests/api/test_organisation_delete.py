"""An organisation is deleted over the API: by an owner's key, or by an owner in person who has just confirmed it."""

from datetime import timedelta

import pytest

from kindling_billing.payments import payment_received
from kindling_departures import confirmed
from kindling_people import ApiClient, Customer, make_customer
from kindling_platform.accounts.models import Membership, Organisation
from kindling_platform.departures.organisations import organisations_clear
from kindling_platform.keys.services import key_create

pytestmark = pytest.mark.django_db


def delete(client: ApiClient, owner: Customer, **asked: str):
    query = "&".join(f"{name}={value}" for name, value in ({"confirm": owner.org.slug} | asked).items())
    return client.call("delete", f"organisation?{query}")


def refusal(reply) -> tuple[int, str]:
    return reply.status_code, reply.json()["error"]["code"]


def is_there(owner: Customer) -> bool:
    return Organisation.objects.get(id=owner.org.id).deleting_at is None


def test_an_owners_key_deletes_it_and_is_refused_from_then_on(ada: Customer):
    client = ada.client("manage")
    assert delete(client, ada).status_code == 204
    assert not is_there(ada)
    for method, path in (("get", "me"), ("delete", f"organisation?confirm={ada.org.slug}"), ("get", "keys")):
        assert refusal(client.call(method, path)) == (412, "organisation_deleted")


@pytest.mark.parametrize("role", ["admin", "developer", "viewer", "billing"])
def test_owners_alone_may(ada: Customer, role: str):
    made = make_customer("other")
    Membership.objects.filter(user=made.user).update(organisation=ada.org, role=role)
    other = Customer(made.user, ada.org)
    assert refusal(delete(other.browser(), ada)) == (403, "role_insufficient")
    if role in {"admin", "developer"}:
        assert refusal(delete(other.client("manage"), ada)) == (403, "role_insufficient")
    assert is_there(ada)


def test_a_key_needs_the_scope_to_manage(ada: Customer):
    assert refusal(delete(ada.client("read", "inference"), ada)) == (403, "scope_missing")
    assert is_there(ada)


def test_a_session_has_to_be_confirmed_first(ada: Customer):
    assert refusal(delete(ada.browser(), ada)) == (403, "reauthentication_required")
    assert is_there(ada)
    browser = ApiClient()
    browser.cookies = confirmed(ada.user).cookies
    assert delete(browser, ada).status_code == 204
    assert not is_there(ada)


def test_the_slug_confirms(ada: Customer, bob: Customer):
    client = ada.client()
    assert refusal(client.call("delete", "organisation")) == (400, "confirmation_wrong")
    assert refusal(delete(client, ada, confirm=bob.org.slug)) == (400, "confirmation_wrong")
    assert is_there(ada) and is_there(bob)


def test_conditions_have_codes_and_say_what_is_left(ada: Customer):
    client = ada.client()
    payment_received(intent_id="pi_1", owner_id=ada.org.id, amount_cents=1234)
    for given in ("", "0", "12.33", "-5"):
        reply = delete(client, ada, give_up_usd=given)
        assert refusal(reply) == (409, "balance_left")
        error = reply.json()["error"]
        assert (error["param"], error["details"]) == ("give_up_usd", {"paid_left_usd": "12.34"})
        assert error["doc_url"].endswith("#balance_left")
    for given in ("much", "1e99", "%00"):
        assert delete(client, ada, give_up_usd=given).status_code == 400
    assert is_there(ada)
    assert delete(client, ada, give_up_usd="12.34").status_code == 204


def test_the_operator_sees_what_became_of_it(ada: Customer, bob: Customer, operator: Customer):
    scopes = ["operator", "manage"]
    _, text = key_create(org=operator.org, name="till", scopes=scopes, actor=operator.actor, may_operate=True)
    till = ApiClient(HTTP_AUTHORIZATION=f"Bearer {text}")

    def states() -> dict[str, tuple[str, str | None]]:
        rows = till.call("get", "operator/organisations").json()["data"]
        return {row["id"]: (row["state"], row["suspended_at"]) for row in rows}

    delete(ada.client(), ada)
    assert (states()[ada.org.id], states()[bob.org.id]) == (("deleting", None), ("active", None))
    begun = Organisation.objects.get(id=ada.org.id).deleting_at
    Organisation.objects.filter(id=ada.org.id).update(deleting_at=begun - timedelta(minutes=1))
    assert organisations_clear() == [ada.org.id]
    row = till.call("get", f"operator/organisations/{ada.org.id}").json()
    assert (row["state"], row["name"], row["slug"]) == ("deleted", "Deleted organisation", ada.org.slug)
    assert (row["members"], row["suspended_reason"], row["balance_usd"]) == (0, "", "1.00")
    resumed = till.call("post", f"operator/organisations/{ada.org.id}/resume", {"reason": "Back"})
    assert refusal(resumed) == (409, "organisation_deleted")


def test_the_operators_own_stays(operator: Customer):
    reply = delete(operator.client(), operator)
    assert refusal(reply) == (409, "operator_organisation")
    assert [one["code"] for one in reply.json()["error"]["details"]] == ["operator_organisation"]
    assert is_there(operator)
