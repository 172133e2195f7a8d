"""Asks a database and a cache once whether they let us in, with a short wait, and says why not in one sentence."""

import psycopg
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from kindling_platform.embedded.errors import EmbeddedError
from kindling_platform.embedded.logs import secrets_hide

WAIT_S = 3


def database_version(url: str) -> str:
    """What the server says that it is. Errors: `database_unreachable`."""
    try:
        with psycopg.connect(url, connect_timeout=WAIT_S) as db:
            row = db.execute("SHOW server_version").fetchone()
    except (psycopg.Error, OSError, ValueError) as error:
        raise EmbeddedError("database_unreachable", f"The database refuses us: {_reason(error)}.") from error
    return str(row[0]) if row else ""


def cache_ping(url: str) -> None:
    """A server that still reads its data answers too. Errors: `cache_unreachable`."""
    try:
        with redis.Redis.from_url(
            url, socket_timeout=WAIT_S, socket_connect_timeout=WAIT_S, retry=Retry(NoBackoff(), 0)
        ) as cache:
            cache.ping()
    except redis.BusyLoadingError:
        return
    except (redis.RedisError, OSError, ValueError) as error:
        raise EmbeddedError("cache_unreachable", f"The cache refuses us: {_reason(error)}.") from error


def _reason(error: Exception) -> str:
    lines = secrets_hide(str(error)).strip().splitlines()
    return (lines[0] if lines else type(error).__name__).rstrip(".")
