"""The headers that a gateway adds to an OpenAI body on its way to an engine."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b

REQUEST = "x-kindling-request"
ADAPTER = "x-kindling-adapter"
SALT = "x-kindling-salt"
TENANT = "x-kindling-tenant"
PRIORITY = "x-kindling-priority"
WEIGHT = "x-kindling-weight"
GRANT = "x-kindling-grant"
CONTEXT = "x-kindling-context"
# Headers of an engine's streams: what is known before the first token.
PROMPT_TOKENS = "x-kindling-prompt-tokens"
CACHED_TOKENS = "x-kindling-cached-tokens"
# Header of an engine's whole answers, for the gateway: milliseconds since their first token.
WRITTEN_MS = "x-kindling-written-ms"
# Headers of answers to requests that ask for the times of their parts.
TIMING = "server-timing"
ADAPTER_HIT = "x-kindling-adapter-hit"
# Headers of the client's own, which a gateway passes on.
ISOLATION = "x-prompt-cache-isolation-key"
AFFINITY = "x-session-affinity"

MAX_CONTEXT_BYTES = 1024
MAX_ID_CHARS = 64
MAX_TEXT_CHARS = 256
MAX_GRANT_TOKENS = 1 << 31
HASH_CHARS = 64
_ID = re.compile(rf"[A-Za-z0-9._-]{{1,{MAX_ID_CHARS}}}")


class HeaderError(ValueError):
    """A header is missing or malformed; the text names it."""


@dataclass(frozen=True, slots=True)
class EngineHeaders:
    """The parsed headers.

    `weight` is the tenant's share against others that wait, sent in per cent; `grant` is the total of output tokens
    the request may make, None for no limit. `salt` has the client's isolation key in it; `ignored` names headers that
    ask for what is not done here.
    """

    request: str
    adapter: str = ""
    salt: str = ""
    tenant: str = ""
    priority: int = 0
    grant: int | None = None
    context: str = ""
    weight: float = 1.0
    ignored: tuple[str, ...] = ()


def parse_headers(headers: Mapping[str, str]) -> EngineHeaders:
    """Read the headers of one request.

    Raises:
        HeaderError: a header is missing, too long or not of its kind.
    """
    request = headers.get(REQUEST, "")
    if not _ID.fullmatch(request):
        raise HeaderError(f"{REQUEST} must be an id of 1 to {MAX_ID_CHARS} letters, digits, dots and dashes")
    adapter = headers.get(ADAPTER, "")
    if adapter and (len(adapter) != HASH_CHARS or not set(adapter) <= set("0123456789abcdef")):
        raise HeaderError(f"{ADAPTER} must be a sha256 in lower-case hex")
    # Half surrogates, which stand for bytes that are not UTF-8, are not printable.
    context = _text(CONTEXT, headers.get(CONTEXT, ""), limit=MAX_CONTEXT_BYTES)
    if len(context.encode()) > MAX_CONTEXT_BYTES:
        raise HeaderError(f"{CONTEXT} is longer than {MAX_CONTEXT_BYTES} bytes")
    grant = headers.get(GRANT, "")
    return EngineHeaders(
        request=request,
        adapter=adapter,
        salt=salt_isolate(_text(SALT, headers.get(SALT, "")), _text(ISOLATION, headers.get(ISOLATION, ""))),
        tenant=_text(TENANT, headers.get(TENANT, "")),
        priority=_integer(PRIORITY, headers.get(PRIORITY, "0"), low=-1000, high=1000),
        weight=_integer(WEIGHT, headers.get(WEIGHT, "100"), low=1, high=10_000) / 100,
        grant=_integer(GRANT, grant, low=1, high=MAX_GRANT_TOKENS) if grant else None,
        context=context,
        ignored=tuple(name for name in (AFFINITY,) if headers.get(name)),
    )


def salt_isolate(salt: str, key: str) -> str:
    """The cache salt of a client that wants to share no cached prefix with requests under other keys."""
    if not key:
        return salt
    return blake2b(f"{len(salt)}:{salt}{key}".encode(), digest_size=16).hexdigest()


def _text(name: str, value: str, *, limit: int = MAX_TEXT_CHARS) -> str:
    if len(value) > limit or not value.isprintable():
        raise HeaderError(f"{name} must be printable text of at most {limit} characters")
    return value


def _integer(name: str, text: str, *, low: int, high: int) -> int:
    try:
        value = int(text)
    except ValueError:
        raise HeaderError(f"{name} must be an integer") from None
    if not low <= value <= high:
        raise HeaderError(f"{name} must be between {low} and {high}")
    return value
