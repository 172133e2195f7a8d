"""Keys that are followed by others, and keys that are bound to models."""

from datetime import timedelta

import pytest
import redis

from kindling_billing.admission_scripts import epoch_key
from kindling_people import Customer
from kindling_platform.common.clock import now
from kindling_platform.config.env import load_env
from kindling_platform.keys.models import ApiKey

pytestmark = pytest.mark.django_db


def made(customer: Customer, **fields) -> dict:
    reply = customer.browser().call(
        "post", "keys", {"name": "ci", "scopes": ["inference", "manage"]} | fields
    )
    assert reply.status_code == 201, reply.content
    return dict(reply.json())


def test_a_successor_has_the_same_rights_and_the_old_key_a_while(ada: Customer):
    old = made(ada, models=["kindling/spark"])
    reply = ada.browser().call("post", f"keys/{old['id']}/rotate", {"overlap_s": 3600})
    new = reply.json()
    assert (reply.status_code, reply["Cache-Control"]) == (201, "no-store")
    assert new["key"] != old["key"]
    assert (new["name"], new["scopes"], new["models"], new["family"]) == (
        "ci",
        old["scopes"],
        old["models"],
        old["id"],
    )
    left = ApiKey.objects.get(id=old["id"]).expires_at - now()
    assert timedelta(minutes=59) < left <= timedelta(hours=1)
    for key in (old, new):
        assert ada.browser().get("/api/v1/me", HTTP_AUTHORIZATION=f"Bearer {key['key']}").status_code == 200


def test_rotating_at_once_ends_the_old_key(ada: Customer):
    old = made(ada)
    ada.browser().call("post", f"keys/{old['id']}/rotate", {"overlap_s": 0})
    reply = ada.browser().get("/api/v1/me", HTTP_AUTHORIZATION=f"Bearer {old['key']}")
    assert reply.json()["error"]["code"] == "key_expired"
    again = ada.browser().call("post", f"keys/{old['id']}/rotate", {})
    assert (again.status_code, again.json()["error"]["code"]) == (409, "key_revoked")


def test_a_key_has_one_successor(ada: Customer):
    old = made(ada)
    path = f"keys/{old['id']}/rotate"
    new = ada.browser().call("post", path, {"overlap_s": 3600}).json()
    again = ada.browser().call("post", path, {"overlap_s": 3600})
    assert (again.status_code, again.json()["error"]["code"]) == (409, "key_rotated")
    assert ApiKey.objects.filter(organisation=ada.org).count() == 2
    assert ada.browser().call("post", f"keys/{new['id']}/rotate", {}).status_code == 201


def test_an_earlier_end_stays(ada: Customer):
    soon = now() + timedelta(minutes=5)
    old = made(ada, expires_at=soon.isoformat())
    new = ada.browser().call("post", f"keys/{old['id']}/rotate", {"overlap_s": 3600}).json()
    assert ApiKey.objects.get(id=old["id"]).expires_at == soon
    assert ApiKey.objects.get(id=new["id"]).expires_at == soon


@pytest.mark.parametrize("overlap", [-1, 31 * 86_400])
def test_an_overlap_has_bounds(ada: Customer, overlap: int):
    old = made(ada)
    assert ada.browser().call("post", f"keys/{old['id']}/rotate", {"overlap_s": overlap}).status_code == 422


@pytest.mark.parametrize("models", [[], ["spark"], ["a/b/c"], ["a/b#c"], ["kindling/" + "x" * 200]])
def test_models_are_named_in_full(ada: Customer, models: list[str]):
    reply = ada.browser().call("post", "keys", {"name": "x", "models": models})
    assert reply.status_code in (400, 422)
    assert not ApiKey.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_gateways_hear_of_a_revocation_at_once(ada: Customer):
    key = made(ada)
    client = redis.Redis.from_url(load_env().redis_url)
    assert client.get(epoch_key(key["id"])) is None
    ada.browser().call("delete", f"keys/{key['id']}")
    assert client.get(epoch_key(key["id"])) == b"2"
    assert client.ttl(epoch_key(key["id"])) > 3600
