"""Tells every gateway at once that a key has changed; without Valkey they find out within a second by themselves."""

from functools import cache, partial

import redis
import structlog
from django.db import transaction

from kindling_billing.admission_scripts import epoch_key
from kindling_platform.config.env import load_env
from kindling_platform.keys.models import ApiKey

log = structlog.get_logger("kindling.keys")
# Longer than any gateway goes on with a key that it cannot look up.
KEPT_S = 2 * 3600
TIMEOUT_S = 0.5


def epoch_publish(key: ApiKey) -> None:
    """Publish the key's epoch after the commit."""
    transaction.on_commit(partial(_set, key.id, key.epoch), robust=True)


@cache
def _client() -> "redis.Redis":
    return redis.Redis.from_url(
        load_env().redis_url,
        socket_timeout=TIMEOUT_S,
        socket_connect_timeout=TIMEOUT_S,
        decode_responses=True,
    )


def _set(key_id: str, epoch: int) -> None:
    try:
        _client().set(epoch_key(key_id), epoch, ex=KEPT_S)
    except redis.RedisError as error:
        log.warning("epoch.not_published", key=key_id, error=type(error).__name__)
