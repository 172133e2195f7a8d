"""The headers that a gateway adds to an OpenAI body on its way to an engine."""

from collections.abc import Mapping
from dataclasses import dataclass

REQUEST = "x-kindling-request"
ADAPTER = "x-kindling-adapter"
SALT = "x-kindling-salt"
TENANT = "x-kindling-tenant"
PRIORITY = "x-kindling-priority"
GRANT = "x-kindling-grant"
CONTEXT = "x-kindling-context"

MAX_CONTEXT_BYTES = 1024
MAX_ID_CHARS = 64
MAX_GRANT_TOKENS = 1 << 31
HASH_CHARS = 64


class HeaderError(ValueError):
    """A header is missing or malformed; the text names it."""


@dataclass(frozen=True, slots=True)
class EngineHeaders:
    """The parsed headers. `grant` is the total of output tokens the request may make, None for no limit."""

    request: str
    adapter: str = ""
    salt: str = ""
    tenant: str = ""
    priority: int = 0
    grant: int | None = None
    context: str = ""


def parse_headers(headers: Mapping[str, str]) -> EngineHeaders:
    """Read the headers of one request.

    Raises:
        HeaderError: a header is missing, too long or not of its kind.
    """
    request = headers.get(REQUEST, "")
    if not request or len(request) > MAX_ID_CHARS or not request.isascii():
        raise HeaderError(f"{REQUEST} must be an id of 1 to {MAX_ID_CHARS} characters")
    adapter = headers.get(ADAPTER, "")
    if adapter and (len(adapter) != HASH_CHARS or not set(adapter) <= set("0123456789abcdef")):
        raise HeaderError(f"{ADAPTER} must be a sha256 in lower-case hex")
    context = headers.get(CONTEXT, "")
    if len(context.encode()) > MAX_CONTEXT_BYTES:
        raise HeaderError(f"{CONTEXT} is longer than {MAX_CONTEXT_BYTES} bytes")
    grant = headers.get(GRANT, "")
    return EngineHeaders(
        request=request,
        adapter=adapter,
        salt=headers.get(SALT, ""),
        tenant=headers.get(TENANT, ""),
        priority=_integer(PRIORITY, headers.get(PRIORITY, "0"), low=-1000, high=1000),
        grant=_integer(GRANT, grant, low=1, high=MAX_GRANT_TOKENS) if grant else None,
        context=context,
    )


def _integer(name: str, text: str, *, low: int, high: int) -> int:
    try:
        value = int(text)
    except ValueError:
        raise HeaderError(f"{name} must be an integer") from None
    if not low <= value <= high:
        raise HeaderError(f"{name} must be between {low} and {high}")
    return value
