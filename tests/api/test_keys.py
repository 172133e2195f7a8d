"""Keys over the API, and what a key may do."""

from datetime import timedelta

import pytest

from kindling_people import Customer
from kindling_platform.common.clock import now
from kindling_platform.keys.models import ApiKey
from kindling_platform.keys.secret import is_wellformed

pytestmark = pytest.mark.django_db


def test_a_key_is_shown_once_and_works(ada: Customer):
    made = ada.browser().call("post", "keys", {"name": "ci", "scopes": ["read"]})
    assert made.status_code == 201, made.content
    assert made["Cache-Control"] == "no-store"
    body = made.json()
    assert is_wellformed(body["key"])
    listed = ada.browser().call("get", "keys").json()["data"]
    assert [row["id"] for row in listed] == [body["id"]]
    assert body["key"] not in str(listed)
    me = ada.browser().get("/api/v1/me", HTTP_AUTHORIZATION=f"Bearer {body['key']}").json()
    assert me["organisation"]["id"] == ada.org.id
    assert me["scopes"] == ["read"]


def test_only_a_digest_is_stored(ada: Customer):
    text = ada.key()
    row = ApiKey.objects.get()
    stored = str(ApiKey.objects.filter(id=row.id).values().get())
    assert text not in stored
    assert text[12:-4] not in stored
    assert len(bytes(row.digest)) == 32


@pytest.mark.parametrize(
    ("body", "code", "status"),
    [
        ({"name": "", "scopes": ["read"]}, "validation_failed", 422),
        ({"name": "x" * 81, "scopes": ["read"]}, "name_invalid", 400),
        ({"name": "x", "scopes": ["root"]}, "scopes_invalid", 400),
        ({"name": "x", "scopes": []}, "scopes_invalid", 400),
        ({"name": "x", "expires_at": "2020-01-01T00:00:00Z"}, "expiry_invalid", 400),
        ({"name": "x\0y"}, "validation_failed", 422),
    ],
)
def test_a_key_that_makes_no_sense_is_refused(ada: Customer, body: dict, code: str, status: int):
    reply = ada.client().call("post", "keys", body)
    assert (reply.status_code, reply.json()["error"]["code"]) == (status, code)


def test_a_revoked_key_is_refused_and_revoking_twice_is_fine(ada: Customer):
    client, browser = ada.client(), ada.browser()
    key_id = client.call("get", "me").json()["key_id"]
    assert browser.call("delete", f"keys/{key_id}").status_code == 204
    assert browser.call("delete", f"keys/{key_id}").status_code == 204
    reply = client.call("get", "me")
    assert (reply.status_code, reply.json()["error"]["code"]) == (401, "key_revoked")
    assert reply["WWW-Authenticate"] == "Bearer"


def test_an_expired_key_is_refused(ada: Customer):
    client = ada.client()
    ApiKey.objects.update(expires_at=now() - timedelta(seconds=1))
    assert client.call("get", "me").json()["error"]["code"] == "key_expired"


@pytest.mark.parametrize("text", ["", "kd_live_nonsense", "kd_live_" + "0" * 36, "a b", "ü"])
def test_what_is_no_key_is_refused(ada: Customer, client, text: str):
    reply = client.get("/api/v1/me", HTTP_AUTHORIZATION=f"Bearer {text}".encode("latin-1").decode("latin-1"))
    assert (reply.status_code, reply.json()["error"]["code"]) == (401, "invalid_api_key")


def test_without_anything_nobody_gets_in(client, db):
    reply = client.get("/api/v1/me")
    assert (reply.status_code, reply.json()["error"]["code"]) == (401, "not_authenticated")


@pytest.mark.parametrize(
    ("scopes", "method", "path", "status"),
    [
        (("inference",), "get", "me", 200),
        (("inference",), "get", "keys", 403),
        (("read",), "get", "keys", 200),
        (("read",), "post", "keys", 403),
        (("manage",), "get", "keys", 200),
        (("manage",), "post", "keys", 422),
    ],
)
def test_scopes_decide(ada: Customer, scopes: tuple[str, ...], method: str, path: str, status: int):
    reply = ada.client(*scopes).call(method, path, {} if method == "post" else None)
    assert reply.status_code == status
    if status == 403:
        assert reply.json()["error"]["code"] == "scope_missing"


@pytest.mark.parametrize(
    ("role", "status"), [("owner", 422), ("developer", 422), ("viewer", 403), ("billing", 403)]
)
def test_roles_decide(ada: Customer, role: str, status: int):
    ada.user.memberships.update(role=role)
    assert ada.browser().call("post", "keys", {}).status_code == status


def test_a_session_needs_a_csrf_token(ada: Customer):
    from kindling_people import ApiClient

    client = ApiClient(enforce_csrf_checks=True)
    client.force_login(ada.user)
    reply = client.call("post", "keys", {"name": "ci"})
    assert (reply.status_code, reply.json()["error"]["type"]) == (403, "permission_error")


def test_a_suspended_organisation_may_look_but_not_change(ada: Customer):
    client = ada.client()
    ada.org.suspended_at = now()
    ada.org.save()
    assert client.call("get", "keys").status_code == 200
    assert client.call("post", "keys", {"name": "x"}).json()["error"]["code"] == "account_suspended"


def test_pages_follow_each_other_without_gaps(ada: Customer):
    client = ada.client()
    for _ in range(4):
        ada.key()
    seen, cursor = [], ""
    while True:
        page = client.get("/api/v1/keys", {"limit": 2, "cursor": cursor}).json()
        seen += [row["id"] for row in page["data"]]
        cursor = page["next_cursor"]
        if not cursor:
            break
    assert len(seen) == len(set(seen)) == 5
    assert seen == sorted(seen, reverse=True)


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ({"cursor": "%%%"}, "cursor_invalid"),
        ({"cursor": "W10"}, "cursor_invalid"),
        ({"cursor": "WyJ4IiwgInkiXQ"}, "cursor_invalid"),
        ({"limit": "0"}, "limit_invalid"),
        ({"limit": "x"}, "limit_invalid"),
        ({"limit": "9" * 30}, "limit_invalid"),
        ({"limit": "000500999"}, "limit_invalid"),
    ],
)
def test_a_bad_page_is_refused(ada: Customer, query: dict, code: str):
    reply = ada.client().get("/api/v1/keys", query)
    assert (reply.status_code, reply.json()["error"]["code"]) == (400, code)


def test_no_key_reaches_a_log(
    ada: Customer, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    from kindling_platform.api.views import me

    text = ada.key()
    client = ada.client()
    monkeypatch.setattr(me, "organisation_row", lambda *_: 1 / 0)  # our own fault, with a traceback
    with caplog.at_level("DEBUG"):
        for key in (text, text[:-1], "kd_live_nonsense"):
            client.get("/api/v1/me", HTTP_AUTHORIZATION=f"Bearer {key}")
        made = client.call("post", "keys", {"name": "x", "scopes": ["read"]}).json()["key"]
    assert "api.failed" in caplog.text
    for secret in (text, text[8:38], made, made[8:38]):
        assert secret not in caplog.text


def test_a_key_of_the_control_api_shows_when_it_was_used(ada: Customer):
    ada.client().call("get", "me")
    assert ApiKey.objects.get().last_used_at is not None
