"""The Celery app of worker and beat.

    celery -A kindling_workers.app worker -P threads -c 4
    celery -A kindling_workers.app beat

Messages are wake-ups: any of them may be lost, late, doubled or run twice at the same time. Task names are
the contract with `kindling_platform.common.jobs`.
"""

import os

import django
from celery import Celery
from django.apps import apps

from kindling_platform.config.env import load_env
from kindling_workers.schedule import BEAT_SCHEDULE

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "kindling_platform.config.settings")
if not apps.ready:
    django.setup()

# Each step is bounded well below this; a message whose worker died is delivered again after it.
VISIBILITY_TIMEOUT_S = 120

# With DJANGO_SETTINGS_MODULE set, Celery closes each thread's database connections around every task.
app = Celery("kindling")
app.conf.update(
    broker_url=load_env().redis_url,
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
    include=[f"kindling_workers.tasks.{name}" for name in ("adapters", "deployments", "usage", "wallets")],
    task_serializer="json",
    accept_content=["json"],
    result_backend=None,
    task_ignore_result=True,
    task_store_errors_even_if_ignored=False,
    task_acks_late=True,
    worker_prefetch_multiplier=1,
    worker_enable_remote_control=False,
    worker_send_task_events=False,
    worker_cancel_long_running_tasks_on_connection_loss=False,
    worker_hijack_root_logger=False,
    enable_utc=True,
    timezone="UTC",
    beat_schedule=BEAT_SCHEDULE,
    # The schedule is all code: a file beside it could only be torn by a kill.
    beat_scheduler="celery.beat:Scheduler",
    beat_max_loop_interval=1.0,
)
