"""Asks a database and a cache once whether they let us in, with a short wait, and says why not in one sentence."""

import time

import psycopg
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from kindling_platform.embedded.errors import EmbeddedError
from kindling_platform.embedded.logs import secrets_hide

WAIT_S = 3
# Of a refused connection the client's library keeps the words alone.
STARTING = ("starting up", "not yet accepting connections", "in recovery mode")


def database_version(url: str, *, starting_s: float = 0) -> str:
    """What the server says that it is, once it has started, for which we wait so long.

    Errors: `database_unreachable`.
    """
    until = time.monotonic() + starting_s
    while True:
        try:
            with psycopg.connect(url, connect_timeout=WAIT_S) as db:
                row = db.execute("SHOW server_version").fetchone()
        except (psycopg.Error, OSError, ValueError) as error:
            if any(word in str(error) for word in STARTING) and time.monotonic() < until:
                time.sleep(0.2)
                continue
            raise EmbeddedError(
                "database_unreachable", f"The database refuses us: {_reason(error)}."
            ) from error
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
