"""Cross-origin calls from browsers: for the origins that the operator has named, and for those of a client token."""

from kindling_platform.gateway.client_tokens import ClientToken
from kindling_platform.gateway.engine_replies import RELAYED_HEADERS
from kindling_platform.gateway.limits.headers import NAMES
from kindling_platform.gateway.request import Headers, Request

RATES = [
    f"x-ratelimit-{part}-{name}" for name in (*NAMES, "tokens") for part in ("limit", "remaining", "reset")
]
EXPOSED = ", ".join(
    [
        *("x-request-id", "request-id", "x-should-retry", "idempotent-replayed"),
        *("x-kindling-limited-by", "x-kindling-max-tokens"),
        *(name.decode() for name in RELAYED_HEADERS),
        *RATES,
    ]
).encode()
METHODS = b"GET, POST, DELETE, OPTIONS"
DEFAULT_HEADERS = b"authorization, content-type"
MAX_AGE_S = b"600"
ALLOWED = b"access-control-allow-origin"


class Cors:
    """`origins` holds scheme and host as a browser sends them, or ``*``; keys are bearers, so no cookies."""

    def __init__(self, origins: tuple[str, ...]) -> None:
        self._any = "*" in origins
        self._origins = frozenset(origin.rstrip("/").encode() for origin in origins)

    def mark(self, request: Request) -> None:
        """Let the browser hand the reply to its page when the operator allows the origin."""
        origin = request.headers.get(b"origin")
        if origin is None:
            return
        request.extra_headers.append((b"vary", b"origin"))
        if self._any or origin in self._origins:
            self._allow(request, origin)

    def mark_token(self, request: Request, token: ClientToken | None) -> None:
        """The same for the origins that a client token names, errors about the token included."""
        origin = request.headers.get(b"origin")
        if token is None or token.origins is None or origin is None or _is_allowed(request):
            return
        if origin.decode("latin-1") in token.origins:
            self._allow(request, origin)

    async def preflight(self, request: Request) -> None:
        """Answer OPTIONS.

        A preflight carries no token, so that any page may go on to ask; only the answer to a token or an origin that is
        allowed can be read by the page, and without a key or a token nothing is done.
        """
        headers: Headers = [(b"allow", METHODS), (b"content-length", b"0")]
        origin = request.headers.get(b"origin")
        if origin is not None:
            if not _is_allowed(request):
                self._allow(request, origin)
            asked = request.headers.get(b"access-control-request-headers", DEFAULT_HEADERS)
            headers += [
                (b"access-control-allow-methods", METHODS),
                (b"access-control-allow-headers", asked),
                (b"access-control-max-age", MAX_AGE_S),
            ]
        await request.start(204, headers)
        await request.end()

    def _allow(self, request: Request, origin: bytes) -> None:
        request.extra_headers += [(ALLOWED, origin), (b"access-control-expose-headers", EXPOSED)]


def _is_allowed(request: Request) -> bool:
    return any(name == ALLOWED for name, _ in request.extra_headers)
