"""A real OpenID provider on a free port: discovery, authorize, token with PKCE, signed ID tokens, keys, userinfo.

Whoever opens its authorize page is signed in as `person` at once.
"""

import base64
import hashlib
import json
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import jwt
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from django.conf import settings
from django.test import Client

from kindling_platform.common.identity import OIDC, IdentityProvider

CLIENT_ID, CLIENT_SECRET, NAME = "kindling-test", "a secret of the client", "Example Inc."
BEGIN = "/accounts/oidc/oidc/login/"


@dataclass(slots=True)
class Provider:
    """The provider's state; `spoil` changes the claims of the next tokens, `key` is what signs them."""

    url: str
    key: RSAPrivateKey
    shown: RSAPrivateKey
    person: dict[str, Any] = field(default_factory=dict)
    spoil: dict[str, Any] = field(default_factory=dict)
    algorithm: str = "RS256"
    asked: dict[str, Any] = field(default_factory=dict)
    codes: dict[str, dict[str, str]] = field(default_factory=dict)
    refuses: str = ""
    github: dict[str, Any] = field(default_factory=dict)

    def discovery(self) -> dict[str, Any]:
        return {
            "issuer": self.url,
            "authorization_endpoint": f"{self.url}/authorize",
            "token_endpoint": f"{self.url}/token",
            "jwks_uri": f"{self.url}/keys",
            "userinfo_endpoint": f"{self.url}/userinfo",
            "token_endpoint_auth_methods_supported": ["client_secret_basic"],
        }

    def keys(self) -> dict[str, Any]:
        public = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(self.shown.public_key()))
        return {"keys": [public | {"kid": "one", "use": "sig"}]}

    def authorize(self, query: dict[str, str]) -> str:
        """Where the browser is sent back to."""
        self.asked = query
        code = secrets.token_urlsafe(16)
        self.codes[code] = query
        told = {"error": self.refuses} if self.refuses else {"code": code}
        return f"{query['redirect_uri']}?{urlencode(told | {'state': query['state']})}"

    def token(self, form: dict[str, str], authorization: str) -> dict[str, Any]:
        """The answer to a code, which works once, for whoever has its secrets."""
        begun = self.codes.pop(form["code"])
        digest = hashlib.sha256(form["code_verifier"].encode()).digest()
        challenge = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
        named = f"{form.get('client_id')}:{form.get('client_secret')}"
        client = base64.b64decode(authorization.removeprefix("Basic ")).decode() or named
        assert begun["code_challenge_method"] == "S256" and begun["code_challenge"] == challenge
        assert client == f"{CLIENT_ID}:{CLIENT_SECRET}"
        assert form["redirect_uri"] == begun["redirect_uri"]
        now = int(time.time())
        claims = {
            "iss": self.url, "aud": CLIENT_ID, "sub": "1234", "iat": now, "exp": now + 300,
            "nonce": begun.get("nonce", ""), "auth_time": now,
        }  # fmt: skip
        claims |= self.person | self.spoil
        secret: Any = self.key if self.algorithm != "none" else None
        signed = jwt.encode(claims, secret, algorithm=self.algorithm, headers={"kid": "one"})
        return {"access_token": secrets.token_urlsafe(), "token_type": "Bearer", "id_token": signed}


@contextmanager
def identity_provider() -> Iterator[Provider]:
    """Run one for as long as the block runs."""
    key = generate_private_key(65537, 2048)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.provider = Provider(f"http://127.0.0.1:{server.server_port}", key, key)  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server.provider  # type: ignore[attr-defined]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class Handler(BaseHTTPRequestHandler):
    """The provider's addresses."""

    def do_GET(self) -> None:
        provider: Provider = self.server.provider  # type: ignore[attr-defined]
        place = urlsplit(self.path)
        if place.path == "/authorize":
            query = {name: values[0] for name, values in parse_qs(place.query).items()}
            self.send_response(302)
            self.send_header("Location", provider.authorize(query))
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        answers: dict[str, Any] = {
            "/user": lambda: {"id": 77, "login": "grace", "name": "Grace Hopper", "email": None},
            "/user/emails": lambda: [{"primary": True, **provider.github}],
            "/.well-known/openid-configuration": provider.discovery,
            "/keys": provider.keys,
            "/userinfo": lambda: {"sub": "1234"} | provider.person,
        }
        self._answer(answers[place.path]())

    def do_POST(self) -> None:
        provider: Provider = self.server.provider  # type: ignore[attr-defined]
        text = self.rfile.read(int(self.headers["Content-Length"])).decode()
        form = {name: values[0] for name, values in parse_qs(text).items()}
        try:
            self._answer(provider.token(form, self.headers.get("Authorization", "")))
        except (AssertionError, KeyError):
            self._answer({"error": "invalid_grant"}, 400)

    def _answer(self, value: Any, status: int = 200) -> None:
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


def configured(provider_url: str, id_: str = OIDC) -> Any:
    """The settings of an installation that has this provider."""
    issuer = provider_url if id_ == OIDC else None
    one = IdentityProvider(id_, NAME, CLIENT_ID, CLIENT_SECRET, issuer)
    return replace(settings.KINDLING_ENV, identity_providers=(one,))


def way_back(client: Client, begin: str = BEGIN, **form: str) -> str:
    """What a browser does from the button on: the page that leads away, the provider, and the address back."""
    page = client.post(begin, form)
    assert page.status_code == 200, page.content.decode()
    address = page["Refresh"].removeprefix("0; url=")
    return opened(address)


def opened(address: str) -> str:
    """Where the provider's page leads, without the host, which a test's client has not."""
    import http.client

    place = urlsplit(address)
    connection = http.client.HTTPConnection(place.hostname or "", place.port)
    connection.request("GET", f"{place.path}?{place.query}")
    reply = connection.getresponse()
    assert reply.status == 302, reply.read()
    back = urlsplit(reply.headers["Location"])
    connection.close()
    return f"{back.path}?{back.query}"
