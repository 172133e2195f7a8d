"""Wakes workers by the name of a task, once the transaction at hand is committed.

A message is a wake-up and never the truth: when the broker is away, a sweep finds the row a little later.
"""

from functools import cache, partial

import structlog
from celery import Celery
from django.db import transaction
from kombu.exceptions import OperationalError

from kindling_platform.config.env import load_env

log = structlog.get_logger("kindling.jobs")


@cache
def _client() -> Celery:
    client = Celery("kindling", broker=load_env().broker_url, set_as_current=False)
    client.conf.update(
        task_serializer="json",
        task_ignore_result=True,
        broker_connection_timeout=1,
        broker_connection_retry=False,
        broker_transport_options={"socket_connect_timeout": 1, "socket_timeout": 1, "max_retries": 1},
    )
    return client


def enqueue(name: str, **kwargs: object) -> None:
    """Ask a worker to run a task after the commit; arguments must be JSON."""
    transaction.on_commit(partial(_send, name, kwargs), robust=True)


def _send(name: str, kwargs: dict[str, object]) -> None:
    try:
        _client().send_task(name, kwargs=kwargs, retry=False, ignore_result=True)
    except (OperationalError, OSError) as error:
        log.warning("job.not_sent", task=name, error=type(error).__name__)
