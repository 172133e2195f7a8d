"""The workers' connection to Valkey, apart from the broker's."""

from functools import cache

import redis

from kindling_platform.config.env import load_env


@cache
def valkey_client() -> "redis.Redis":
    """A client that is safe to share among threads; it fails within two seconds when nobody answers."""
    return redis.Redis.from_url(
        load_env().redis_url, socket_timeout=2, socket_connect_timeout=2, decode_responses=True
    )
