"""A database URL as Django's settings want it."""

from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

POOL = {"min_size": 0, "max_size": 16, "timeout": 10, "max_idle": 120}
# A server that vanished without a word is given up within seconds instead of the kernel's hours.
OVER_TCP: dict[str, Any] = {
    "connect_timeout": 5,
    "tcp_user_timeout": 10_000,
    "keepalives": 1,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
}


def database_settings(url: str) -> dict[str, Any]:
    """The entry of DATABASES for `postgresql://user:password@host:port/name?option=…`."""
    parts = urlsplit(url)
    if parts.scheme not in {"postgres", "postgresql"}:
        raise ValueError("KINDLING_DATABASE_URL must begin with postgresql://")
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": unquote(parts.path.lstrip("/")),
        "USER": unquote(parts.username or ""),
        "PASSWORD": unquote(parts.password or ""),
        "HOST": parts.hostname or "",
        "PORT": str(parts.port or ""),
        # What the URL says goes before.
        "OPTIONS": (OVER_TCP if parts.hostname else {}) | dict(parse_qsl(parts.query)),
        "CONN_MAX_AGE": 60,
        "CONN_HEALTH_CHECKS": True,
    }


def connections_pool() -> None:
    """Let the connections of this process live in a pool; before the first of them is opened.

    The web process serves each request in a thread of its own, so there they cannot live in threads. Workers keep
    theirs: they hold session-level locks, which a connection would carry back into a pool.
    """
    from django.db import connections

    entry = connections.settings["default"]
    entry["OPTIONS"]["pool"] = POOL
    entry["CONN_MAX_AGE"] = 0
