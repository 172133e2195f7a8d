"""Asks engines how long they have computed, and ends the time of replicas that nobody hears of any more."""

import time

from kindling_platform.common.clock import now
from kindling_platform.deployments.intervals import interval_look, intervals_end_unheard
from kindling_platform.deployments.selectors import replica_list
from kindling_workers.http import HttpUnreachable, http_call

# One of the counters that an engine shows at /metrics: seconds spent in steps since it started.
COMPUTED = b"kindling_engine_step_seconds_total "
MICROS_PER_S = 1_000_000
# An engine in a long step answers after it, without its adapters.
ASK_TIMEOUT_S = 5.0
# Those that are not asked in this run are asked in the next; their counters go on counting.
RUN_S = 20.0


def replicas_look() -> int:
    """Take in the counters of every ready replica within a bounded time; how many answered."""
    deadline, answered = time.monotonic() + RUN_S, 0
    for replica in replica_list().filter(state="ready").exclude(url="").order_by("?"):
        if time.monotonic() > deadline:
            break
        computed_s = computed_ask(replica.url)
        if computed_s is not None:
            interval_look(name=replica.name, engine_us=round(computed_s * MICROS_PER_S), at=now())
            answered += 1
    intervals_end_unheard()
    return answered


def computed_ask(url: str) -> float | None:
    """Seconds that the engine at `url` has computed since its start; None when it does not say."""
    try:
        answer = http_call(
            "GET", f"{url.rstrip('/')}/metrics", connect_timeout_s=ASK_TIMEOUT_S, timeout_s=ASK_TIMEOUT_S
        )
    except HttpUnreachable:
        return None
    return computed_read(answer.body) if answer.status == 200 else None


def computed_read(text: bytes) -> float | None:
    """The counter among an engine's metrics; None when it is not there or no number."""
    found = next((line for line in text.splitlines() if line.startswith(COMPUTED)), None)
    try:
        seconds = float(found.removeprefix(COMPUTED)) if found else -1.0
    except ValueError:
        return None
    return seconds if 0 <= seconds < float("inf") else None
