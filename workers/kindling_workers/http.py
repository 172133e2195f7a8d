"""One HTTP exchange on a private network: JSON in, JSON out, a time-out, no retries.

The standard library suffices here; a connection per call costs less than what the calls do.
"""

import http.client
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

MAX_ANSWER_BYTES = 64 * 2**20


class HttpUnreachable(Exception):
    """Nobody listened, or the answer did not come in time."""


class HttpBroken(HttpUnreachable):
    """The request was sent and the other side then hung up: perhaps because of it."""


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """Status and body of an answer."""

    status: int
    body: bytes


def http_call(
    method: str,
    url: str,
    *,
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
    connect_timeout_s: float = 2.0,
    timeout_s: float = 10.0,
) -> HttpAnswer:
    """Send one request and read the whole answer.

    Errors: `HttpBroken` when the connection ended after the request was sent, else `HttpUnreachable`.
    """
    address = urlsplit(url)
    kind = http.client.HTTPSConnection if address.scheme == "https" else http.client.HTTPConnection
    connection = kind(address.hostname or "", address.port, timeout=connect_timeout_s)
    path = address.path + (f"?{address.query}" if address.query else "")
    try:
        try:
            connection.connect()
        except OSError as error:
            raise HttpUnreachable(f"{method} {path}: {error}") from error
        connection.sock.settimeout(timeout_s)
        try:
            connection.request(method, path, body=body, headers=_headers(headers, body))
            answer = connection.getresponse()
            data = answer.read(MAX_ANSWER_BYTES + 1)
        except TimeoutError as error:
            raise HttpUnreachable(f"{method} {path}: no answer within {timeout_s:g} s") from error
        except (OSError, http.client.HTTPException) as error:
            raise HttpBroken(f"{method} {path}: {error or type(error).__name__}") from error
        if len(data) > MAX_ANSWER_BYTES:
            raise HttpBroken(f"{method} {path}: the answer is longer than {MAX_ANSWER_BYTES} bytes")
        if answer.length:
            # A read with a limit does not complain about a body that ends too early.
            raise HttpBroken(f"{method} {path}: the answer lacks {answer.length} bytes")
        return HttpAnswer(answer.status, data)
    finally:
        connection.close()


def _headers(headers: Mapping[str, str] | None, body: bytes | None) -> dict[str, str]:
    kind = {"content-type": "application/json"} if body is not None else {}
    return {**kind, **(headers or {})}
