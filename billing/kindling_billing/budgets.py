"""What a scope with a budget has spent, kept in Valkey beside the holds of its requests. Pure, like `holds`.

Two keys per scope: ``kd:spent:<scope>`` is a hash of ``v`` (version of the owner's ledger account), ``d`` and ``ds``
(day and what was spent on it), ``m`` and ``ms`` (month), ``t`` (in all), ``h`` and ``x`` as a wallet has them;
``kd:spending:<scope>`` is a hash of request id to hold. Days and months are UTC's, money is nano-dollars.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from kindling_billing.holds import hold_nano
from kindling_billing.purses import HELPERS

# ARGV: version, day, spent on it, month, spent in it, spent in all, now in ms, then request ids that are counted.
SPENT: Final = (
    HELPERS
    + """
local version = redis.call('HGET', KEYS[1], 'v')
local newer = not version or tonumber(ARGV[1]) >= tonumber(version)
if newer then
  redis.call('HSET', KEYS[1], 'v', ARGV[1], 'd', ARGV[2], 'ds', ARGV[3], 'm', ARGV[4], 'ms', ARGV[5], 't', ARGV[6])
end
for i = 8, #ARGV do drop(KEYS[1], KEYS[2], ARGV[i]) end
recount(KEYS[1], KEYS[2], tonumber(ARGV[7]))
return newer and 1 or 0
"""
)
# ARGV: how long it lasts, in ms. A token's budget begins at nothing and is gone with the token.
OPEN_SPENT: Final = """
redis.call('HSETNX', KEYS[1], 'v', '0')
redis.call('HSETNX', KEYS[1], 't', '0')
redis.call('PEXPIRE', KEYS[1], ARGV[1])
return 1
"""

SCRIPTS: Final = {"spent": SPENT, "open_spent": OPEN_SPENT}


@dataclass(frozen=True, slots=True)
class Spent:
    """What a scope has spent by the books, in pico-dollars, as of a version of its owner's account."""

    version: int
    day_picousd: int
    month_picousd: int
    total_picousd: int


def spent_keys(scope_name: str) -> list[str]:
    """KEYS of both scripts: what was spent, then what is being spent."""
    return [f"kd:spent:{scope_name}", f"kd:spending:{scope_name}"]


def day_of(moment: datetime) -> str:
    """The day that a budget counts for, such as 20260131."""
    return f"{moment.year:04}{moment.month:02}{moment.day:02}"


def month_of(moment: datetime) -> str:
    """The month that a budget counts for, such as 202601."""
    return f"{moment.year:04}{moment.month:02}"


def spent_args(spent: Spent, *, moment: datetime, request_ids: list[str] | None = None) -> list[str]:
    """ARGV of SPENT, which loads a scope from the books and drops the holds of requests that they hold."""
    amounts = [hold_nano(amount) for amount in (spent.day_picousd, spent.month_picousd, spent.total_picousd)]
    now_ms = int(moment.timestamp() * 1000)
    return [
        str(spent.version), day_of(moment), str(amounts[0]), month_of(moment), str(amounts[1]), str(amounts[2]),
        str(now_ms), *(request_ids or ()),
    ]  # fmt: skip
