"""Carries what gateways have shipped into the books, tells Valkey, and tells the operator how the witnesses agree."""

from dataclasses import asdict

import redis
import structlog
from redis.exceptions import RedisError

from kindling_platform.usage.comparisons import WITNESSES_KEY
from kindling_platform.usage.spooled import BATCH, SpoolBooked, spool_book
from kindling_platform.usage.witnesses import Witnesses, witnesses_compare
from kindling_workers.complaints import complaints
from kindling_workers.wallets import Wallets

log = structlog.get_logger("kindling.workers")
MAX_BATCHES = 20


def spool_carry(wallets: Wallets) -> set[str]:
    """Book what is due, in batches up to a bound; gives the owners whose balance Valkey could not be told."""
    untold: set[str] = set()
    for _ in range(MAX_BATCHES):
        done = spool_book()
        untold |= _tell(wallets, done)
        if done.settled < BATCH:
            break
    return untold


def witnesses_tell(client: "redis.Redis") -> Witnesses:
    """Compare the witnesses of the last day and keep the result."""
    found = witnesses_compare()
    say = log.warning if found.differing or found.only_engine or found.unbooked else log.info
    say("usage.witnesses", **asdict(found))
    client.hset(WITNESSES_KEY, mapping={name: str(value) for name, value in asdict(found).items()})
    return found


def _tell(wallets: Wallets, done: SpoolBooked) -> set[str]:
    untold: set[str] = set()
    for owner_id, balance in done.wallets.items():
        try:
            wallets.posted(owner_id=owner_id, balance=balance, request_ids=done.request_ids[owner_id])
        except RedisError as error:
            untold.add(owner_id)
            complaints.complain("usage.book valkey", f"{type(error).__name__}: {error}")
    return untold
