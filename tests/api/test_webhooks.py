"""Webhooks over the control API: made, changed, rotated, tested, sent again, by keys and roles that may."""

import pytest

from kindling_hooks import hook
from kindling_people import Customer
from kindling_platform.accounts.models import Membership, Organisation
from kindling_platform.hooks import places
from kindling_platform.hooks.models import Endpoint

pytestmark = pytest.mark.django_db
URL = "https://hooks.example.com/in"


@pytest.fixture(autouse=True)
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "addresses_of", lambda host, port: ["93.184.215.14"])


def test_a_webhooks_life(ada: Customer):
    client = ada.client("read", "manage")
    wanted = {"url": URL, "events": ["batch.failed", "batch.completed"]}
    reply = client.call("post", "webhooks", wanted, headers={"Idempotency-Key": "one"})
    made = reply.json()
    assert reply.status_code == 201 and reply["Cache-Control"] == "no-store"
    assert made["secret"].startswith("whsec_") and made["events"] == ["batch.completed", "batch.failed"]
    again = client.call("post", "webhooks", wanted, headers={"Idempotency-Key": "one"})
    assert (again.status_code, again.json()["error"]["details"]) == (409, {"id": made["id"]})
    path = f"webhooks/{made['id']}"
    assert client.call("get", path).json() == {name: made[name] for name in made if name != "secret"}
    assert [row["id"] for row in client.call("get", "webhooks").json()["data"]] == [made["id"]]
    changed = client.call("patch", path, {"events": [], "description": "CI"})
    assert (changed.json()["events"], changed.json()["description"], changed.json()["url"]) == ([], "CI", URL)
    rotated = client.call("post", f"{path}/rotate")
    assert rotated.json()["secret"] != made["secret"] and rotated.json()["old_secret_until"]
    assert client.call("post", f"{path}/rotate").json()["error"]["code"] == "webhook_rotated"
    sent = client.call("post", f"{path}/test")
    assert (sent.status_code, sent.json()["event_type"], sent.json()["state"]) == (
        202,
        "webhook.test",
        "waiting",
    )
    one = client.call("get", f"{path}/deliveries/{sent.json()['id']}").json()
    assert f'"id":"{one["event_id"]}","type":"webhook.test"' in one["body"] and one["answer"] == ""
    assert client.call("post", f"{path}/deliveries/{one['id']}/resend").status_code == 202
    assert len(client.call("get", f"{path}/deliveries").json()["data"]) == 1
    assert client.call("patch", path, {"enabled": False}).json()["enabled"] is False
    assert client.call("post", f"{path}/test").json()["error"]["code"] == "webhook_off"
    assert client.call("delete", path).status_code == 204
    assert client.call("get", path).status_code == 404


@pytest.mark.parametrize(
    ("body", "code", "param"),
    [
        ({}, "validation_failed", "url"),
        ({"url": "http://hooks.example.com"}, "webhook_url_invalid", "url"),
        ({"url": URL, "events": ["key.eaten"]}, "webhook_events_unknown", "events"),
        ({"url": URL, "secret": "mine"}, "validation_failed", "secret"),
        ({"url": URL, "description": "a\tb\u0007"}, "webhook_description_invalid", "description"),
    ],
)
def test_what_is_refused(ada: Customer, body: dict[str, object], code: str, param: str):
    reply = ada.client().call("post", "webhooks", body)
    said = reply.json()["error"]
    assert (said["code"], said["param"]) == (code, param)
    assert reply.status_code == (422 if code == "validation_failed" else 400)
    assert not Endpoint.objects.for_org(ada.org).exists()


def test_scopes_roles_and_suspension(ada: Customer):
    endpoint, _ = hook(ada)
    path = f"webhooks/{endpoint.id}"
    assert ada.client("read").call("get", path).status_code == 200
    assert ada.client("inference").call("get", path).status_code == 403
    for client in (ada.client("read"), ada.client("inference")):
        assert client.call("post", f"{path}/test").json()["error"]["code"] == "scope_missing"
    for role, sees in (("developer", True), ("viewer", False), ("billing", False)):
        Membership.objects.filter(user=ada.user).update(role=role)
        browser = ada.browser()
        assert (browser.call("get", path).status_code == 200) is sees, role
        for method, where in (("delete", path), ("post", f"{path}/test"), ("post", f"{path}/rotate")):
            assert browser.call(method, where).status_code == 403, (role, where)
    Membership.objects.filter(user=ada.user).update(role="owner")
    Organisation.objects.filter(id=ada.org.id).update(suspended_at=endpoint.created_at)
    assert ada.client().call("post", f"{path}/test").json()["error"]["code"] == "account_suspended"
    assert Endpoint.objects.for_org(ada.org).count() == 1
