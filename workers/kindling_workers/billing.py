"""Bills machine time by the hour, stops what nobody can pay for, and tells gateways the new balances.

Every step is a transaction that a repeat finds done; a balance that could not be told is compared within the minute.
"""

import time
from datetime import datetime

import structlog

from kindling_billing.selectors import spendable_map
from kindling_platform.common.clock import now
from kindling_platform.common.crash_points import crash_point
from kindling_platform.deployments.gpu_time import (
    Billed,
    interval_bill,
    interval_list_unbilled,
    parked_hours_retry,
)
from kindling_platform.deployments.stops import deployments_stop_unpaid
from kindling_workers.wallets import Wallets

log = structlog.get_logger("kindling.workers")
# What is left is billed by the next run.
RUN_S = 20.0


def gpu_time_bill(wallets: Wallets, *, moment: datetime | None = None) -> Billed:
    """Bill what is closed by a moment, within a bounded time, then stop what has nothing left.

    Errors: `redis.RedisError` when the gateways' copies could not be told; everything is posted then.
    """
    done = _hours_bill(moment or now())
    crash_point("gpu_time.committed")
    for deployment_id in deployments_stop_unpaid():
        log.warning("deployments.halted", deployment=deployment_id)
    if done.posted or done.parked:
        log.info("gpu_time.billed", posted=done.posted, parked=done.parked, cost_picousd=done.cost_picousd)
    for owner_id, balance in spendable_map(owner_ids=done.owner_ids).items():
        wallets.posted(owner_id=owner_id, balance=balance, request_ids=[])
    return done


def _hours_bill(moment: datetime) -> Billed:
    deadline, done = time.monotonic() + RUN_S, Billed()
    after = 0
    while time.monotonic() < deadline:
        retried, after = parked_hours_retry(after=after)
        done.add(retried)
        if not after:
            break
    for interval_id in interval_list_unbilled(moment=moment):
        while time.monotonic() < deadline:
            step = interval_bill(interval_id=interval_id, moment=moment)
            done.add(step)
            if not step.posted and not step.parked:
                break
    return done
