"""Sends webhooks that are due: a few at a time, fairly, so that an endpoint that is slow holds up only itself.

An endpoint gets one at a time and an organisation two; those that fail share half of the places. A run is bounded, and
what it leaves is the next one's.
"""

import time
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait

import structlog
from django.db import connection

from kindling_platform.hooks.outbox import Due, attempt_begin, attempt_settle, delivery_list_due
from kindling_workers.hook_post import hook_post

AT_ONCE, OF_ONE, FAILING = 8, 2, 4
# Nothing is begun later than this in a run; it ends when the last has its answer.
BEGUN_WITHIN_S = 15.0
LOOK_EVERY_S = 0.5
log = structlog.get_logger("kindling.workers")


def hooks_deliver(*, begun_within_s: float = BEGUN_WITHIN_S) -> int:
    """Send what is due, and what becomes due meanwhile; gives how many attempts were made."""
    until, made = time.monotonic() + begun_within_s, 0
    running: dict[Future[bool], Due] = {}
    with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="webhook") as pool:
        while True:
            if time.monotonic() < until and len(running) < AT_ONCE:
                due = delivery_list_due(busy={one.endpoint_id for one in running.values()})
                for one in chosen(due, running.values()):
                    running[pool.submit(_deliver, one.delivery_id)] = one
            if not running:
                return made
            ended, _ = wait(running, timeout=LOOK_EVERY_S, return_when=FIRST_COMPLETED)
            for future in ended:
                one = running.pop(future)
                if (error := future.exception()) is not None:
                    # Its lease ends, and another run goes on with it.
                    log.error("webhook.not_settled", delivery=one.delivery_id, exc_info=error)
                    until = 0.0
                made += error is None and future.result()


def chosen(due: Iterable[Due], running: Iterable[Due]) -> Iterator[Due]:
    """Those that may begin beside what runs."""
    going = list(running)
    of_each, failing = Counter(one.organisation_id for one in going), sum(one.is_failing for one in going)
    places = AT_ONCE - len(going)
    for one in due:
        if not places:
            return
        if of_each[one.organisation_id] >= OF_ONE or (one.is_failing and failing >= FAILING):
            continue
        of_each[one.organisation_id] += 1
        failing += one.is_failing
        places -= 1
        yield one


def delivery_send(delivery_id: str) -> bool:
    """One attempt of one delivery; whether there was something to send."""
    attempt = attempt_begin(delivery_id=delivery_id)
    if attempt is None:
        return False
    outcome = hook_post(attempt.url, body=attempt.body, headers=attempt.headers)
    attempt_settle(delivery_id=attempt.delivery_id, token=attempt.token, outcome=outcome)
    return True


def _deliver(delivery_id: str) -> bool:
    try:
        return delivery_send(delivery_id)
    finally:
        # The thread ends with the run, and its connection with it.
        connection.close()
