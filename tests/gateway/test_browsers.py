"""Cross-origin calls."""

import httpx

from kindling_gateway import GatewayServer, chat

ALLOWED, FOREIGN = "https://app.example.com", "https://evil.example.com"


def preflight(server: GatewayServer, origin: str) -> httpx.Response:
    headers = {
        "Origin": origin,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization,content-type,x-stainless-lang",
    }
    return httpx.options(f"{server.url}/v1/chat/completions", headers=headers)


def test_an_allowed_origin_may_ask(server: GatewayServer):
    reply = preflight(server, ALLOWED)
    assert reply.status_code == 204
    assert reply.headers["access-control-allow-origin"] == ALLOWED
    assert "x-stainless-lang" in reply.headers["access-control-allow-headers"]
    assert "POST" in reply.headers["access-control-allow-methods"]
    assert reply.headers["vary"] == "origin"
    assert "access-control-allow-credentials" not in reply.headers


def test_a_foreign_page_may_ask_but_not_read(server: GatewayServer, http: httpx.Client):
    # Its own preflight cannot carry the client token that may allow it; the answer then tells.
    reply = preflight(server, FOREIGN)
    assert (reply.status_code, reply.headers["access-control-allow-origin"]) == (204, FOREIGN)
    for key in ("", http.headers["authorization"]):
        headers = {"Origin": FOREIGN, "Authorization": key}
        reply = httpx.post(f"{server.url}/v1/chat/completions", json=chat(), headers=headers, timeout=60)
        assert "access-control-allow-origin" not in reply.headers
        assert reply.headers["vary"] == "origin"


def test_replies_and_errors_can_be_read_by_the_page(http: httpx.Client):
    headers = {"Origin": ALLOWED}
    for model, status in (("kindling/words", 200), ("kindling/none", 404)):
        reply = http.post("/v1/chat/completions", json=chat(model), headers=headers)
        assert reply.status_code == status
        assert reply.headers["access-control-allow-origin"] == ALLOWED
        exposed = set(reply.headers["access-control-expose-headers"].split(", "))
        # Those that a client of ours reads, and all of ours that an answer can have.
        assert {
            *("x-request-id", "request-id", "retry-after", "idempotent-replayed", "server-timing"),
            *("x-kindling-ignored", "x-kindling-limited-by", "x-kindling-max-tokens"),
            *("x-kindling-prompt-tokens", "x-kindling-cached-tokens", "x-kindling-adapter-hit"),
            *("x-ratelimit-remaining-tokens", "x-should-retry"),
        } <= exposed
        own = [name for name in reply.headers if name.startswith(("x-kindling-", "x-ratelimit-"))]
        assert set(own) <= exposed
    reply = http.post("/v1/chat/completions", json=chat(), headers={"Origin": FOREIGN})
    assert "access-control-allow-origin" not in reply.headers
