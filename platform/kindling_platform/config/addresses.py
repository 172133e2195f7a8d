"""Which texts are addresses of the servers that settings name.

Each check gives the text as it came and raises ValueError for one that nothing could connect to, so that it is refused
by its name at the start and not by a traceback later.
"""

from urllib.parse import SplitResult, parse_qs, urlsplit

from kindling_platform.common.identity import is_unread

YES = ("1", "true", "yes")
NO = ("0", "false", "no")


def flag(text: str) -> bool:
    """Yes or no in one of the six words for them, in any case. Raises ValueError for every other word."""
    word = text.lower()
    if word not in YES + NO:
        raise ValueError("neither yes nor no")
    return word in YES


def database_address(text: str) -> str:
    """`postgresql://user:password@host:5432/name`; without a host for a socket of this machine."""
    parts = _split(text, ("postgres", "postgresql"))
    if not parts.path.lstrip("/") and "service" not in parse_qs(parts.query):
        raise ValueError("no database is named")
    return text


def cache_address(text: str) -> str:
    """`redis://:password@host:6379/0`, whose path is the number of the database, `rediss://` for TLS, or
    `unix:///path?db=0`.
    """
    if text.startswith("unix:"):
        if not _split(text, ("unix",)).path:
            raise ValueError("no socket is named")
        return text
    parts = _with_host(text, ("redis", "rediss"))
    number = parts.path.strip("/")
    if number and not (number.isascii() and number.isdigit()):
        raise ValueError("the database has no number")
    return text


def mail_address(text: str) -> str:
    """`smtp://user:password@host:587?tls=1`, or `smtps://` for TLS from the start."""
    parts = _with_host(text, ("smtp", "smtps"))
    flag(parse_qs(parts.query).get("tls", ["1"])[0])
    return text


def web_address(text: str) -> str:
    """`http://host` or `https://host`."""
    _with_host(text, ("http", "https"))
    return text


def issuer_address(text: str) -> str:
    """`https://host/path` of an OpenID provider; `http` only where nothing leaves this machine."""
    parts = _with_host(text, ("https", "http"))
    if not is_unread(text):
        raise ValueError("others could read along")
    if parts.query or parts.fragment:
        raise ValueError("an issuer has neither a query nor a fragment")
    return text


def _with_host(text: str, schemes: tuple[str, ...]) -> SplitResult:
    parts = _split(text, schemes)
    if not parts.hostname:
        raise ValueError("no host is named")
    return parts


def _split(text: str, schemes: tuple[str, ...]) -> SplitResult:
    parts = urlsplit(text)
    if parts.scheme not in schemes:
        raise ValueError("another kind of address")
    # The standard library looks at a port only when it is asked for.
    if parts.port == 0 or any(letter.isspace() for letter in parts.hostname or ""):
        raise ValueError("no host or port could be called so")
    return parts
