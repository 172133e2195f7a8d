"""Who and what is refused, with which status and code; a refused request never reaches an engine."""

import datetime as dt
import socket
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from kindling_gateway import GatewayServer, chat, held_nano
from kindling_platform.keys import secret


def refused(reply: httpx.Response) -> tuple[int, str]:
    error = reply.json()["error"]
    assert set(error) == {"message", "type", "param", "code", "doc_url"}
    assert error["message"]
    assert error["doc_url"].endswith(f"/errors/#{error['code']}")
    assert reply.headers["x-request-id"]
    return reply.status_code, error["code"]


@pytest.fixture(autouse=True)
def nothing_reaches_the_engine(scene):
    yield
    assert scene.engine.received == []
    assert held_nano(scene.valkey, scene.customer) == {}


def ask_as(server: GatewayServer, key: str, **fields) -> httpx.Response:
    with server.client(key) as client:
        return client.post("/v1/chat/completions", json=chat(**fields))


def test_no_key(server: GatewayServer):
    reply = ask_as(server, "")
    assert refused(reply) == (401, "invalid_api_key")
    assert reply.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize(
    "authorization",
    ["Bearer nonsense", "Bearer", "Basic abc", "Bearer kd_live_" + "0" * 34, "Bearer \xff\xfe"],
)
def test_a_key_that_is_none(server: GatewayServer, authorization: str):
    headers = {b"authorization": authorization.encode("latin-1")}
    reply = httpx.post(f"{server.url}/v1/chat/completions", json=chat(), headers=headers, timeout=60)
    assert refused(reply) == (401, "invalid_api_key")


def test_a_wellformed_key_that_nobody_has(server: GatewayServer):
    assert refused(ask_as(server, secret.generate())) == (401, "invalid_api_key")


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ({"revoked": True}, (401, "key_revoked")),
        ({"expires_at": dt.datetime(2020, 1, 1, tzinfo=dt.UTC)}, (401, "key_expired")),
        ({"scopes": ("read", "manage")}, (403, "scope_missing")),
        ({"suspended_for": "operator"}, (412, "account_suspended")),
        ({"suspended_for": "unpaid"}, (412, "account_unpaid")),
        ({"suspended_for": "deleted"}, (412, "organisation_deleted")),
    ],
)
def test_a_key_that_may_not(server: GatewayServer, scene, columns: dict, expected: tuple[int, str]):
    assert refused(ask_as(server, scene.world.key(scene.customer, **columns))) == expected


def test_another_organisations_endpoint_does_not_exist(http: httpx.Client, scene):
    for method, path in (("POST", "chat/completions"), ("GET", "models"), ("GET", "models/words")):
        reply = http.request(method, f"/{scene.operator.slug}/v1/{path}", json=chat())
        assert refused(reply) == (404, "organisation_not_found")


def test_another_organisations_model_does_not_exist(http: httpx.Client, scene):
    other = scene.world.org("other")
    scene.world.base(other, "secret", is_public=False)
    for name in ("other/secret", "other/nothing", "accounts/other/models/secret", "secret"):
        reply = http.post("/v1/chat/completions", json=chat(name))
        assert refused(reply) == (404, "model_not_found")
        assert refused(http.get(f"/v1/models/{name}")) == (404, "model_not_found")


@pytest.mark.parametrize("name", ["a/b/c", "/", "#", "a#", "x" * 600, "a\x00b", "../words", "kindling/", "✈"])
def test_a_name_that_is_none(http: httpx.Client, name: str):
    assert refused(http.post("/v1/chat/completions", json=chat(name))) == (404, "model_not_found")


def test_a_model_without_a_price(http: httpx.Client, scene):
    model = scene.new_model(scene.engine.url, priced=False)
    assert refused(http.post("/v1/chat/completions", json=chat(model))) == (503, "price_missing")


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"", "invalid_json"),
        (b"{", "invalid_json"),
        (b"[1]", "invalid_json"),
        (b'"text"', "invalid_json"),
        (b'{"model": "\xff"}', "invalid_json"),
        (b'{"model": "\\ud800"}', "invalid_json"),
        (b'{"model": NaN}', "invalid_json"),
        (b'{"model": "a/b", "temperature": Infinity}', "invalid_json"),
        (b"[" * 100_000, "invalid_json"),
        (b'{"a":' * 50_000 + b"1" + b"}" * 50_000, "invalid_json"),
        (b"{}", "missing_field"),
        (b'{"model": 3}', "invalid_value"),
    ],
    ids=range(12),
)
def test_a_body_that_is_none(http: httpx.Client, body: bytes, expected: str):
    assert refused(http.post("/v1/chat/completions", content=body)) == (400, expected)


def test_the_wrong_method(http: httpx.Client):
    for method, path, allowed in (("GET", "chat/completions", "POST"), ("DELETE", "models", "GET, HEAD")):
        reply = http.request(method, f"/v1/{path}")
        assert refused(reply) == (405, "method_not_allowed")
        assert reply.headers["allow"] == allowed


def test_an_unknown_path(http: httpx.Client):
    for path in (
        "/v1/nothing",
        "/v1/chat/completions/nothing",
        "/nothing",
        "/api/v1/models",
        "/a/b/v1/models",
    ):
        assert refused(http.get(path)) == (404, "unknown_url")


def test_an_empty_wallet(server: GatewayServer, scene):
    poor = scene.world.org("poor", usd=0)
    assert refused(ask_as(server, scene.world.key(poor))) == (402, "insufficient_credit")


def test_no_wallet_at_all(server: GatewayServer, scene):
    scene.world.execute("DELETE FROM gateway_balance WHERE org_id = %s", scene.customer.id)
    assert refused(ask_as(server, scene.key)) == (402, "insufficient_credit")


def test_a_body_over_the_cap_by_its_declared_length(http: httpx.Client):
    assert refused(http.post("/v1/chat/completions", content=b"x" * 9_000_000)) == (413, "request_too_large")


def test_a_hundred_megabytes_are_dropped_unseen(server: GatewayServer, scene):
    """The parts are sent by hand, so that what this process holds tells of the gateway's thread in it."""

    def parts():
        for _ in range(100):
            yield bytes(1_000_000)

    before = peak_kilobytes()
    with server.client(scene.key) as client:
        reply = client.post("/v1/chat/completions", content=parts())
    assert refused(reply) == (413, "request_too_large")
    assert peak_kilobytes() - before < 40_000


def test_a_slow_hostile_upload_does_not_keep_its_place(server: GatewayServer, scene):
    """The headers alone are enough to refuse."""
    address = urlsplit(server.url)
    with socket.create_connection((address.hostname, address.port)) as raw:
        head = f"POST /v1/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {scene.key}\r\n"
        raw.sendall(f"{head}Content-Length: 99999999\r\n\r\n".encode())
        raw.settimeout(60)
        assert raw.recv(12) == b"HTTP/1.1 413"


def peak_kilobytes() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
