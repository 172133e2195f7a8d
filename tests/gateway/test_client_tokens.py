"""Tokens for browsers and phones: bound to models, origins, a budget and a time, and to the key that minted them."""

import time

import httpx
import pytest

from kindling_gateway import GatewayServer, chat, eventually
from kindling_platform.gateway.client_tokens import ClientToken, TokenMint, is_token

PAGE, FOREIGN = "https://shop.example.com", "https://evil.example.com"
COST = 7 * 100_000 + 8 * 400_000


def mint(http: httpx.Client, **fields) -> dict:
    reply = http.post("/v1/client_tokens", json=fields)
    assert reply.status_code == 200, reply.text
    assert reply.headers["cache-control"] == "no-store"
    return reply.json()


def code(reply: httpx.Response) -> tuple[int, str]:
    return reply.status_code, reply.json()["error"]["code"]


def test_a_token_calls_like_its_key(http: httpx.Client, server: GatewayServer, scene):
    made = mint(http)
    assert made["object"] == "client_token"
    assert 590 <= made["expires_at"] - time.time() <= 600
    assert is_token(made["token"])
    with server.client(made["token"]) as page:
        assert page.post("/v1/chat/completions", json=chat()).status_code == 200
        assert page.post(f"/{scene.customer.slug}/v1/chat/completions", json=chat()).status_code == 200
        assert code(page.post("/other/v1/chat/completions", json=chat())) == (404, "organisation_not_found")
        assert code(page.post("/v1/client_tokens", json={})) == (403, "key_required")
    assert {got.headers["x-kindling-tenant"] for got in scene.engine.received} == {scene.customer.id}


def test_a_token_is_bound_to_models(http: httpx.Client, server: GatewayServer, scene):
    other = scene.new_model(scene.engine.url)
    made = mint(http, models=[other])
    assert made["models"] == [other]
    with server.client(made["token"]) as page:
        assert page.post("/v1/chat/completions", json=chat(other)).status_code == 200
        assert code(page.post("/v1/chat/completions", json=chat())) == (403, "model_not_allowed")
    assert code(http.post("/v1/client_tokens", json={"models": ["no/such"]})) == (404, "model_not_found")


def test_a_token_cannot_do_more_than_its_key(server: GatewayServer, scene):
    other = scene.new_model(scene.engine.url)
    with server.client(scene.world.key(scene.customer, models=[other])) as bound:
        assert code(bound.post("/v1/client_tokens", json={"models": ["kindling/words"]})) == (
            403,
            "model_not_allowed",
        )
        with server.client(mint(bound)["token"]) as page:
            assert code(page.post("/v1/chat/completions", json=chat())) == (403, "model_not_allowed")


def test_a_token_is_bound_to_origins_and_their_pages_read_even_errors(
    http: httpx.Client, server: GatewayServer
):
    token = mint(http, origins=[PAGE])["token"]
    with server.client(token) as page:
        for model, status in (("kindling/words", 200), ("kindling/none", 404)):
            reply = page.post("/v1/chat/completions", json=chat(model), headers={"Origin": PAGE})
            assert (reply.status_code, reply.headers["access-control-allow-origin"]) == (status, PAGE)
            assert "x-ratelimit-remaining-requests" in reply.headers["access-control-expose-headers"]
        for headers in ({"Origin": FOREIGN}, {}):
            reply = page.post("/v1/chat/completions", json=chat(), headers=headers)
            assert code(reply) == (403, "origin_not_allowed")
            assert "access-control-allow-origin" not in reply.headers


@pytest.mark.parametrize(
    "path", ["chat/completions", "models", "models/kindling/words", "client_tokens", "nothing"]
)
def test_every_path_answers_a_preflight(server: GatewayServer, path: str):
    for prefix in ("/v1", "/inference/v1", "/acme/v1"):
        headers = {"Origin": PAGE, "Access-Control-Request-Method": "POST"}
        reply = httpx.options(f"{server.url}{prefix}/{path}", headers=headers)
        assert (reply.status_code, reply.headers["access-control-allow-origin"]) == (204, PAGE)
        assert "authorization" in reply.headers["access-control-allow-headers"]


def test_a_tokens_budget_is_its_own(http: httpx.Client, server: GatewayServer, scene):
    made = mint(http, budget=f"{40 * COST / 1e12:.12f}")
    with server.client(made["token"]) as page:
        statuses = [page.post("/v1/chat/completions", json=chat()).status_code for _ in range(45)]
        assert code(page.post("/v1/chat/completions", json=chat())) == (402, "budget_exceeded")
    assert 30 <= statuses.count(200) <= 40
    assert http.post("/v1/chat/completions", json=chat()).status_code == 200


def test_a_budget_that_valkey_lost_is_not_spent_again(http: httpx.Client, server: GatewayServer, scene):
    made = mint(http, budget="0.50")
    scene.valkey.delete(f"kd:spent:token:{made['id']}")
    with server.client(made["token"]) as page:
        assert code(page.post("/v1/chat/completions", json=chat())) == (401, "client_token_unknown")


def test_a_token_dies_with_its_key(http: httpx.Client, server: GatewayServer, scene):
    token = mint(http)["token"]
    with server.client(token) as page:
        assert page.post("/v1/chat/completions", json=chat()).status_code == 200
        scene.world.execute("UPDATE gateway_key SET revoked = true WHERE org_id = %s", scene.customer.id)
        reply = eventually(
            lambda: (
                reply
                if (reply := page.post("/v1/chat/completions", json=chat())).status_code == 401
                else None
            )
        )
    assert code(reply) == (401, "key_revoked")


def test_an_expired_token_says_so_to_its_page(server: GatewayServer, scene):
    token = ClientToken("ct_1", b"k" * 32, int(time.time()) - 1, origins=frozenset([PAGE]))
    text = TokenMint(scene.world.pepper).write(token)
    with server.client(text) as page:
        reply = page.post("/v1/chat/completions", json=chat(), headers={"Origin": PAGE})
    assert code(reply) == (401, "client_token_expired")
    assert reply.headers["access-control-allow-origin"] == PAGE


def test_a_token_that_was_changed_is_refused_unread(http: httpx.Client, server: GatewayServer):
    token = mint(http)["token"]
    body, _, signature = token.partition(".")
    for text in (f"{body}A.{signature}", f"{body}.{'A' * 43}", body):
        with server.client(text) as page:
            assert page.post("/v1/chat/completions", json=chat()).status_code == 401


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"models": []}, "models"),
        ({"models": [1]}, "models"),
        ({"origins": ["shop.example.com"]}, "origins"),
        ({"origins": ["https://shop.example.com/path"]}, "origins"),
        ({"budget": 1}, "budget"),
        ({"budget": "inf"}, "budget"),
        ({"budget": "-1"}, "budget"),
        ({"expires_in": 5}, "expires_in"),
        ({"expires_in": True}, "expires_in"),
        ({"scopes": []}, "scopes"),
    ],
)
def test_what_makes_no_sense_is_refused(http: httpx.Client, fields: dict, param: str):
    reply = http.post("/v1/client_tokens", json=fields)
    assert (reply.status_code, reply.json()["error"]["param"]) == (400, param)


def test_a_token_is_read_as_it_was_written():
    mint = TokenMint("pepper")
    token = ClientToken("ct_1", bytes(range(32)), 2_000_000_000, frozenset({"a/b"}), frozenset({PAGE}), 5)
    assert mint.find(mint.write(token)) == token
    assert TokenMint("another").find(mint.write(token)) is None
