"""The Celery app of worker and beat.

    celery -A kindling_workers.app worker -P threads -c 4
    celery -A kindling_workers.app beat

Messages are wake-ups: any of them may be lost, late, doubled or run twice at the same time. Task names are
the contract with `kindling_platform.common.jobs`.
"""

import logging
import os
from typing import Any

import django
from celery import Celery
from celery.signals import setup_logging, task_postrun, task_prerun
from django.apps import apps
from django.db import close_old_connections

from kindling_platform.config.env import load_env
from kindling_workers.schedule import BEAT_SCHEDULE

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "kindling_platform.config.settings")
if not apps.ready:
    django.setup()

# Each step is bounded well below this; a message whose worker died is delivered again after it.
VISIBILITY_TIMEOUT_S = 120
TASKS = (
    "adapters",
    "books",
    "catalog",
    "departures",
    "deployments",
    "hooks",
    "limits",
    "payments",
    "responses",
    "retention",
    "seeing",
    "status",
    "usage",
    "wallets",
)
# Celery's own lines about every tick would drown ours, and addresses of private files on the hub are as good as keys.
CHATTY = ("celery.app.trace", "celery.beat", "celery.worker.strategy", "httpx")

# Without Celery's Django fix-up, which would make each thread connect to the database anew for every tick.
app = Celery("kindling", fixups=[])
app.conf.update(
    broker_url=load_env().broker_url,
    broker_connection_retry_on_startup=True,
    broker_connection_max_retries=None,
    broker_transport_options={
        "visibility_timeout": VISIBILITY_TIMEOUT_S,
        # A blocked read on a connection that silently died would stop the worker for good.
        "socket_timeout": 30,
        "socket_connect_timeout": 5,
        "socket_keepalive": True,
        "health_check_interval": 10,
    },
    include=[f"{__package__}.tasks.{name}" for name in TASKS],
    task_serializer="json",
    accept_content=["json"],
    result_backend=None,
    task_ignore_result=True,
    task_acks_late=True,
    worker_prefetch_multiplier=1,
    worker_enable_remote_control=False,
    worker_send_task_events=False,
    worker_cancel_long_running_tasks_on_connection_loss=False,
    enable_utc=True,
    timezone="UTC",
    beat_schedule=BEAT_SCHEDULE,
    beat_scheduler=f"{__package__}.beat:BoundedScheduler",
    beat_max_loop_interval=1.0,
)


@setup_logging.connect
def keep_logging(**_: Any) -> None:
    """The settings have configured logging; Celery shall not do it again."""
    for name in CHATTY:
        logging.getLogger(name).setLevel(logging.WARNING)


@task_prerun.connect
@task_postrun.connect
def release_connections(**_: Any) -> None:
    """Before and after a task, drop what is broken or too old: connections belong to the pool's threads."""
    close_old_connections()
