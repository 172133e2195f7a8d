"""Cross-origin calls from browsers, for the origins that the operator has named."""

from kindling_platform.gateway.request import Headers, Request

EXPOSED = b"x-request-id, retry-after, x-kindling-ignored"
METHODS = b"GET, POST, OPTIONS"
DEFAULT_HEADERS = b"authorization, content-type"
MAX_AGE_S = b"600"


class Cors:
    """`origins` holds scheme and host as a browser sends them, or ``*``; keys are bearers, so no cookies."""

    def __init__(self, origins: tuple[str, ...]) -> None:
        self._any = "*" in origins
        self._origins = frozenset(origin.rstrip("/").encode() for origin in origins)

    def mark(self, request: Request) -> None:
        """Let the browser hand the reply to its page when the origin is allowed."""
        origin = request.headers.get(b"origin")
        if origin is None or not (self._any or self._origins):
            return
        request.extra_headers.append((b"vary", b"origin"))
        if self._any or origin in self._origins:
            request.extra_headers += [
                (b"access-control-allow-origin", origin),
                (b"access-control-expose-headers", EXPOSED),
            ]

    async def preflight(self, request: Request) -> None:
        """Answer OPTIONS: what is allowed, or nothing for a foreign origin."""
        headers: Headers = [(b"allow", METHODS), (b"content-length", b"0")]
        if any(name == b"access-control-allow-origin" for name, _ in request.extra_headers):
            asked = request.headers.get(b"access-control-request-headers", DEFAULT_HEADERS)
            headers += [
                (b"access-control-allow-methods", METHODS),
                (b"access-control-allow-headers", asked),
                (b"access-control-max-age", MAX_AGE_S),
            ]
        await request.start(204, headers)
        await request.end()
