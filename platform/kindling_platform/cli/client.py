"""The REST API over the standard library, with one error for everything that goes wrong."""

import ipaddress
import json
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from typing import Any

from kindling_platform.cli.credentials import Credentials, credentials_find
from kindling_platform.cli.errors import CliError
from kindling_platform.cli.output import rows_of

TIMEOUT_S = 60.0
PAGE_ROWS = 200
# A stack on this machine is not asked through a proxy, which could not reach it and would read the key.
_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class Client:
    """Calls with a key; paths begin with a slash. Errors: CliError with the API's code and sentence."""

    def __init__(self, credentials: Credentials | None = None) -> None:
        self.credentials = credentials or credentials_find()
        if urllib.parse.urlsplit(self.credentials.url).scheme not in {"http", "https"}:
            raise CliError(f"{self.credentials.url} is not an http or https address.", "invalid_url")

    def get(self, path: str, **query: str | None) -> Any:
        asked = {name: value for name, value in query.items() if value}
        return self.call("GET", f"{path}?{urllib.parse.urlencode(asked)}" if asked else path)

    def rows(self, path: str) -> list[dict[str, Any]]:
        """Every row of a list, however many pages it has."""
        found: list[dict[str, Any]] = []
        cursor: str | None = None
        while True:
            page = self.get(path, limit=str(PAGE_ROWS), cursor=cursor)
            found += rows_of(page)
            cursor = page.get("next_cursor")
            if not cursor:
                return found

    def lines(self, path: str, **query: str | None) -> Iterator[str]:
        """GET a text and give its lines, with their ends, while they come."""
        asked = {name: value for name, value in query.items() if value}
        with self._open("GET", f"{path}?{urllib.parse.urlencode(asked)}", None, {}) as reply:
            for line in reply:
                yield line.decode()

    def post(self, path: str, body: Any = None) -> Any:
        return self.call("POST", path, {} if body is None else body)

    def call(self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> Any:
        """One call; JSON or bytes in, JSON out, None for an empty answer."""
        with self._open(method, path, body, headers or {}) as reply:
            raw = reply.read()
        try:
            return json.loads(raw) if raw else None
        except ValueError:
            raise CliError(
                f"{self.credentials.url} answers, but not as a Kindling does.", "not_kindling"
            ) from None

    def stream(self, path: str, body: Any) -> Iterator[dict[str, Any]]:
        """POST and give the events of the answer until its end."""
        with self._open("POST", path, body, {}) as reply:
            for line in reply:
                if line.startswith(b"data: ") and line.strip() != b"data: [DONE]":
                    event = json.loads(line[6:])
                    if "error" in event:
                        raise CliError(event["error"]["message"], str(event["error"].get("code")))
                    yield event

    def _open(self, method: str, path: str, body: Any, headers: dict[str, str]) -> Any:
        headers = {"Authorization": f"Bearer {self.credentials.key}", **headers}
        data = body
        if isinstance(body, bytes):
            headers.setdefault("Content-Type", "application/octet-stream")
        elif body is not None:
            data, headers["Content-Type"] = json.dumps(body).encode(), "application/json"
        request = urllib.request.Request(  # noqa: S310  the scheme was checked above
            self.credentials.url + path, data=data, headers=headers, method=method
        )
        try:
            send = _DIRECT.open if _is_loopback(self.credentials.url) else urllib.request.urlopen
            return send(request, timeout=TIMEOUT_S)
        except urllib.error.HTTPError as error:
            raise _refusal(error) from None
        except (OSError, ValueError) as error:
            reason = getattr(error, "reason", error)
            raise CliError(f"{self.credentials.url} does not answer: {reason}", "unreachable") from None


def _is_loopback(url: str) -> bool:
    host = urllib.parse.urlsplit(url).hostname or ""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _refusal(error: urllib.error.HTTPError) -> CliError:
    try:
        said = json.loads(error.read())["error"]
        return CliError(str(said["message"]), str(said.get("code") or error.code))
    except (ValueError, KeyError, TypeError):
        return CliError(f"The server answered with status {error.code}.", str(error.code))
