"""The few HTTP calls that the start makes to its own stack, as a customer would."""

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from http.client import HTTPException
from typing import Any

# Never through a proxy of the environment: it could not reach our own stack, and would read the keys.
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole answer; status 0 when nobody answered."""

    status: int
    body: Any
    headers: dict[str, str]


def call(url: str, *, token: str, method: str = "GET", body: Any = None, timeout_s: float = 10) -> Reply:
    """One call with JSON or bytes in and JSON out; a refusal is a reply, not an exception."""
    try:
        with _open(url, token, method, body, timeout_s) as reply:
            return Reply(reply.status, _parse(reply.read()), _lower(reply.headers))
    except urllib.error.HTTPError as error:
        return Reply(error.code, _parse(error.read()), _lower(error.headers))
    except (OSError, HTTPException) as error:
        return Reply(0, {"error": {"message": str(error), "code": "unreachable"}}, {})


def stream(url: str, *, token: str, body: Any, timeout_s: float = 60) -> tuple[Reply, Iterator[bytes]]:
    """POST and give the answer's lines as they come; the reply carries status and headers."""
    try:
        opened = _open(url, token, "POST", body, timeout_s)
    except urllib.error.HTTPError as error:
        return Reply(error.code, _parse(error.read()), _lower(error.headers)), iter(())
    except (OSError, HTTPException) as error:
        return Reply(0, {"error": {"message": str(error), "code": "unreachable"}}, {}), iter(())
    return Reply(opened.status, None, _lower(opened.headers)), _lines(opened)


def error_code(reply: Reply) -> str:
    """The code in an answer of our one error shape, else nothing."""
    error = reply.body.get("error") if isinstance(reply.body, dict) else None
    return str(error.get("code")) if isinstance(error, dict) else ""


def error_text(reply: Reply) -> str:
    """The sentence in an answer of our one error shape."""
    error = reply.body.get("error") if isinstance(reply.body, dict) else None
    if isinstance(error, dict):
        return f"{error.get('message')} [{error.get('code')}]"
    return f"HTTP status {reply.status}"


def _open(url: str, token: str, method: str, body: Any, timeout_s: float) -> Any:
    headers = {"Authorization": f"Bearer {token}"}
    data = body
    if body is not None and not isinstance(body, bytes):
        data, headers["Content-Type"] = json.dumps(body).encode(), "application/json"
    elif body is not None:
        headers["Content-Type"] = "application/octet-stream"
    # The address is that of our own stack, which the supervisor made.
    request = urllib.request.Request(url, data=data, headers=headers, method=method)  # noqa: S310
    return _OPENER.open(request, timeout=timeout_s)


def _lines(opened: Any) -> Iterator[bytes]:
    with opened:
        yield from opened


def _lower(headers: Any) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}


def _parse(raw: bytes) -> Any:
    try:
        return json.loads(raw)
    except ValueError:
        return raw.decode(errors="replace")
