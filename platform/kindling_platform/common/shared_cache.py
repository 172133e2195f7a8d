"""Django's cache in Valkey: what signing up and in may do is counted once, over all processes and machines.

It is no source of truth. While Valkey says nothing each process counts for itself, so that people still get in.
"""

import json
import time
from collections.abc import Callable
from typing import Any

import redis
import structlog
from django.core.cache.backends.locmem import LocMemCache
from django.core.cache.backends.redis import RedisCache

log = structlog.get_logger("kindling.cache")
TIMEOUT_S = 0.2
# So long nobody waits for a server that has just not answered.
PAUSE_S = 5.0
FALLS_BACK = (
    "add",
    "get",
    "set",
    "touch",
    "delete",
    "has_key",
    "incr",
    "get_many",
    "set_many",
    "delete_many",
)
SCAN_KEYS = 500


class JsonSerializer:
    """Values as JSON: unlike pickled ones they can do nothing when somebody else has written them."""

    def dumps(self, value: Any) -> bytes:
        return json.dumps(value).encode()

    def loads(self, data: bytes) -> Any:
        return json.loads(data)


class SharedCache(RedisCache):
    """The cache of all web processes; its own memory stands in while Valkey is away."""

    # Django makes one object for each thread; what they know of the server is the process's.
    _paused_until = 0.0

    def __init__(self, server: str, params: dict[str, Any]) -> None:
        options = {
            "serializer": JsonSerializer,
            "socket_timeout": TIMEOUT_S,
            "socket_connect_timeout": TIMEOUT_S,
        }
        super().__init__(server, params | {"OPTIONS": options})
        self._url = server
        self._own = LocMemCache("shared-cache", {})

    def clear(self) -> None:
        """Forget what this cache holds, and nothing else in Valkey."""
        self._own.clear()
        client = redis.Redis.from_url(self._url, socket_timeout=TIMEOUT_S)
        for key in client.scan_iter(match=f"{self.key_prefix}:*", count=SCAN_KEYS):
            client.delete(key)

    def _ask(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if time.monotonic() >= SharedCache._paused_until:
            try:
                return getattr(super(), name)(*args, **kwargs)
            except redis.RedisError as error:
                SharedCache._paused_until = time.monotonic() + PAUSE_S
                log.warning("cache.away", error=type(error).__name__)
        return getattr(self._own, name)(*args, **kwargs)


def _falling_back(name: str) -> Callable[..., Any]:
    def ask(self: SharedCache, *args: Any, **kwargs: Any) -> Any:
        return self._ask(name, args, kwargs)

    return ask


for _name in FALLS_BACK:
    setattr(SharedCache, _name, _falling_back(_name))
