"""A key does what its maker may, whatever its scopes; and what it makes is its maker's."""

import pytest

from kindling_people import ApiClient, Customer, make_customer
from kindling_platform.accounts.actor import SYSTEM
from kindling_platform.accounts.models import Invitation, Membership, User
from kindling_platform.accounts.services import operator_ensure
from kindling_platform.accounts.team import member_role_set
from kindling_platform.keys.leaving import member_remove
from kindling_platform.keys.models import ApiKey
from kindling_platform.keys.secret import generate
from kindling_platform.keys.services import key_create, key_ensure

pytestmark = pytest.mark.django_db
FORBIDDEN = (403, "role_insufficient")
GOVERNING = [
    ("patch", "request-log", {"days": 7}),
    ("post", "invitations", {"email": "x@example.test", "role": "admin"}),
    ("post", "payments", {"amount_cents": 1000}),
    ("patch", "limits", {"requests_per_minute": None}),
]


@pytest.fixture
def dev(ada: Customer) -> Customer:
    """A developer of ada's organisation."""
    made = make_customer("dev")
    Membership.objects.filter(user=made.user).update(organisation=ada.org, role="developer")
    return Customer(made.user, ada.org)


def bearer(text: str) -> ApiClient:
    return ApiClient(HTTP_AUTHORIZATION=f"Bearer {text}")


def answer(reply) -> tuple[int, str]:
    return reply.status_code, reply.json().get("error", {}).get("code", "")


def made_through(client: ApiClient, path: str = "keys") -> tuple[str, str]:
    reply = client.call("post", path, {"name": "made", "scopes": ["manage"]} if path == "keys" else {})
    assert reply.status_code == 201, reply.content
    return reply.json()["id"], reply.json()["key"]


@pytest.mark.parametrize(("method", "path", "body"), GOVERNING)
def test_a_developers_key_does_not_govern(ada: Customer, dev: Customer, method: str, path: str, body):
    assert answer(dev.client().call(method, path, body)) == FORBIDDEN
    assert answer(ada.client().call(method, path, body)) != FORBIDDEN


def test_a_developer_does_not_become_an_admin_by_a_key(ada: Customer, dev: Customer):
    _, text = made_through(dev.client())
    hers = key_create(org=ada.org, name="hers", scopes=["manage"], actor=ada.actor)[0]
    _, successor = made_through(dev.browser(), f"keys/{hers.id}/rotate")
    for client in (dev.client(), bearer(text), bearer(successor)):
        assert answer(client.call("patch", f"members/{dev.user.id}", {"role": "admin"})) == FORBIDDEN
        assert client.call("get", "keys").status_code == 200
    assert Membership.objects.get(user=dev.user).role == "developer"


def test_a_key_loses_with_its_maker(ada: Customer, dev: Customer):
    client = dev.client()
    assert client.call("post", "keys", {"name": "x", "scopes": ["read"]}).status_code == 201
    member_role_set(org=ada.org, user_id=dev.user.id, role="viewer", actor=ada.actor)
    assert client.call("get", "keys").status_code == 200
    assert answer(client.call("post", "keys", {"name": "x", "scopes": ["read"]})) == FORBIDDEN
    member_role_set(org=ada.org, user_id=dev.user.id, role="admin", actor=ada.actor)
    assert client.call("patch", "request-log", {"days": 7}).status_code == 200
    member_remove(org=ada.org, user_id=dev.user.id, actor=ada.actor, keep_keys=True)
    assert answer(client.call("patch", "request-log", {"days": 7})) == FORBIDDEN
    assert client.call("get", "adapters").status_code == 200, "what was built with it goes on"


def test_what_a_key_makes_goes_with_its_maker(ada: Customer, dev: Customer):
    Membership.objects.filter(user=dev.user).update(role="admin")
    first, text = made_through(dev.client())
    second, text = made_through(bearer(text))
    third, text = made_through(bearer(text), f"keys/{second}/rotate")
    asked = {"email": "friend@example.test", "role": "admin"}
    assert bearer(text).call("post", "invitations", asked).status_code == 201
    assert set(
        ApiKey.objects.filter(id__in=[first, second, third]).values_list("created_by_id", flat=True)
    ) == {dev.user.id}
    member_remove(org=ada.org, user_id=dev.user.id, actor=ada.actor, keep_keys=False)
    assert not ApiKey.objects.filter(id__in=[first, second, third], revoked_at=None).exists()
    assert not Invitation.objects.filter(ended_at=None).exists()


def test_who_rotates_has_the_text_and_so_the_key(ada: Customer, dev: Customer):
    hers = key_create(org=ada.org, name="hers", scopes=["inference"], actor=ada.actor)[0]
    successor, _ = made_through(dev.client(), f"keys/{hers.id}/rotate")
    key = ApiKey.objects.get(id=successor)
    assert (key.created_by_id, key.family_id) == (dev.user.id, hers.id)


def test_the_installations_own_key_is_an_owners(operator: Customer):
    text = generate()
    key_ensure(org=operator.org, name="Start", scopes=["read", "manage"], text=text, actor=SYSTEM)
    assert bearer(text).call("patch", "request-log", {"days": 7}).status_code == 200


def test_what_the_installations_own_key_makes_is_its_owners(operator: Customer):
    text = generate()
    key_ensure(org=operator.org, name="Start", scopes=["read", "manage"], text=text, actor=SYSTEM)
    first, text = made_through(bearer(text))
    assert ApiKey.objects.get(id=first).created_by_id == operator.user.id
    assert bearer(text).call("patch", "request-log", {"days": 7}).status_code == 200


@pytest.mark.parametrize("end", ["demoted", "removed"])
def test_a_start_finds_whoever_runs_the_installation_now(operator: Customer, end: str):
    second = make_customer("second")
    Membership.objects.filter(user=second.user).update(organisation=operator.org, role="owner")
    leaving = {"org": operator.org, "user_id": operator.user.id, "actor": second.actor, "may_own": True}
    if end == "demoted":
        member_role_set(role="viewer", **leaving)
    else:
        member_remove(keep_keys=True, **leaving)
    for _ in range(2):
        found, password = operator_ensure(email=operator.user.email)
        assert (found, password) == (second.user, None)
    assert User.objects.get(id=second.user.id).is_superuser
    assert not User.objects.get(id=operator.user.id).is_superuser


def test_who_runs_the_installation_no_more_has_no_powers_left(operator: Customer, ada: Customer):
    for end in ("demoted", "removed"):
        second = make_customer(end)
        Membership.objects.filter(user=second.user).update(organisation=operator.org, role="admin")
        User.objects.filter(id=second.user.id).update(is_staff=True, is_superuser=True)
        colleague = Customer(second.user, operator.org)
        _, text = key_create(
            org=operator.org,
            name="till",
            scopes=["operator", "read"],
            actor=colleague.actor,
            may_operate=True,
        )
        assert bearer(text).call("get", "operator/organisations").status_code == 200
        leaving = {"org": operator.org, "user_id": second.user.id, "actor": operator.actor, "may_own": True}
        if end == "demoted":
            member_role_set(role="developer", **leaving)
        else:
            member_remove(keep_keys=True, **leaving)
        assert answer(bearer(text).call("get", "operator/organisations")) == FORBIDDEN
        user = User.objects.get(id=second.user.id)
        assert (user.is_staff, user.is_superuser) == (False, False)
    assert User.objects.get(id=operator.user.id).is_superuser
