"""Errors of the data plane in OpenAI's shape: a status, a stable code and a sentence a caller can act on."""

from collections.abc import Mapping
from typing import Any

import orjson

from kindling_platform.common.error_index.entries import error_entries, error_url

TYPE_BY_STATUS = {
    401: "authentication_error",
    402: "insufficient_quota",
    403: "permission_error",
    429: "rate_limit_error",
}


class GatewayError(Exception):
    """A refusal the client sees; `headers` go out with it (for example ``retry-after``)."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        param: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.param = param
        self.headers = dict(headers or {})

    def body(self) -> bytes:
        """The JSON body ``{"error": {"message", "type", "param", "code"}}``."""
        return orjson.dumps(error_object(self.status, self.code, self.message, self.param))


class ErrorDocs:
    """Says in errors where their code is explained: ``doc_url``, into the index under `public_url`."""

    __slots__ = ("_public_url",)

    def __init__(self, public_url: str) -> None:
        self._public_url = public_url
        error_entries()  # read at the start, so that no request waits for it

    def body(self, body: bytes) -> bytes:
        """An error's body with its ``doc_url``; unchanged where it is no error of OpenAI's shape with a known code."""
        try:
            answer = orjson.loads(body)
        except orjson.JSONDecodeError:
            return body
        error = answer.get("error") if isinstance(answer, dict) else None
        if not isinstance(error, dict) or not (url := error_url(self._public_url, error.get("code"))):
            return body
        error["doc_url"] = url
        return orjson.dumps(answer)


class ClientGoneError(Exception):
    """The client closed its connection; nobody is left to answer."""


def error_object(status: int, code: str, message: str, param: str | None = None) -> dict[str, Any]:
    """OpenAI's error object; the type follows from the status."""
    kind = TYPE_BY_STATUS.get(status, "invalid_request_error" if status < 500 else "api_error")
    named = None if param is None else shown(param)
    return {"error": {"message": shown(message), "type": kind, "param": named, "code": code}}


def shown(text: str) -> str:
    """A text with a `?` for each byte of a client's that was no character, which neither JSON nor Postgres takes."""
    return text.encode("utf-8", "replace").decode()


def unknown_url(method: str, path: str) -> GatewayError:
    """404 for a path that nothing serves."""
    return GatewayError(404, "unknown_url", f"There is no {method} {path[:200]} on this server.")


def method_not_allowed(method: str, allowed: str) -> GatewayError:
    """405 with the methods that would work."""
    message = f"{method} is not allowed here; use {allowed}."
    return GatewayError(405, "method_not_allowed", message, headers={"allow": allowed})


def model_not_found(name: str) -> GatewayError:
    """404 for a model that does not exist or that the caller may not see: both read the same."""
    message = f"The model {name[:200]!r} does not exist or you do not have access to it. See GET /v1/models."
    return GatewayError(404, "model_not_found", message, param="model")


def insufficient_credit() -> GatewayError:
    """402 when not even one token is affordable."""
    message = "Your organisation's credit does not cover this request. Add credit or shorten the prompt."
    return GatewayError(402, "insufficient_credit", message)


def no_replica(model: str) -> GatewayError:
    """503 when no replica of a model got ready in time."""
    message = f"No running replica can serve {model[:200]!r} at the moment. Try again in a few seconds."
    return GatewayError(503, "no_replica", message, headers={"retry-after": "2"})


def upstream_failed() -> GatewayError:
    """502 when the engine failed; such a request costs nothing."""
    message = "The engine failed while it worked on this request. It costs you nothing; please try again."
    return GatewayError(502, "upstream_failed", message)


def books_unavailable() -> GatewayError:
    """503 when neither cache nor database can say who the caller is or what they may spend."""
    message = "The platform cannot reach its database at the moment. Try again in a few seconds."
    return GatewayError(503, "database_unavailable", message, headers={"retry-after": "2"})


def server_shutdown() -> GatewayError:
    """503 for requests that outlive the grace period of a restart."""
    message = "The server is restarting and had to end this request. Please send it again."
    return GatewayError(503, "server_shutdown", message, headers={"retry-after": "2"})
