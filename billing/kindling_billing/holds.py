"""Holds: the money that requests in flight may still spend, kept in Valkey beside a copy of the balance.

Pure: key names, Lua texts and argument builders; the callers bring their own client. Two keys per owner,

- ``kd:wallet:<owner>``: hash of ``b`` (balance in nano-dollars, rounded down), ``v`` (the ledger account's
  version), ``h`` (sum of the holds) and ``x`` (when to look for expired holds, ms);
- ``kd:holds:<owner>``: hash of request id to ``<nano-dollars>:<expiry in ms>``.

Available money is ``b - h``. Only scripts that begin with `purses.HELPERS` write these keys (those below and
those of `admission_scripts`), so that ``h`` stays the sum of the second hash; a refusal, an expiry and every
seed count it anew. Numbers travel as text, because Lua's numbers are doubles; sums are exact up to nine
million dollars.
"""

from typing import Final

from kindling_billing.purses import HELPERS

PICO_PER_NANO: Final = 1000


def wallet_key(owner_id: str) -> str:
    """Name of the hash with an owner's balance."""
    return f"kd:wallet:{owner_id}"


def holds_key(owner_id: str) -> str:
    """Name of the hash with an owner's holds."""
    return f"kd:holds:{owner_id}"


def balance_nano(picousd: int) -> int:
    """A balance in nano-dollars, rounded down, so that nobody spends what is not there."""
    return picousd // PICO_PER_NANO


def hold_nano(picousd: int) -> int:
    """A cost in nano-dollars, rounded up, so that a hold always covers its request."""
    return -(-picousd // PICO_PER_NANO)


# ARGV: version, balance in nano-dollars, now in ms. An older version never replaces a newer one.
SEED: Final = (
    HELPERS
    + """
local version = redis.call('HGET', KEYS[1], 'v')
local newer = not version or tonumber(ARGV[1]) >= tonumber(version)
if newer then redis.call('HSET', KEYS[1], 'b', ARGV[2], 'v', ARGV[1]) end
recount(KEYS[1], KEYS[2], tonumber(ARGV[3]))
return newer and 1 or 0
"""
)

# ARGV: version, balance in nano-dollars, then the request ids which that balance has been charged for.
POSTED: Final = (
    HELPERS
    + """
local version = redis.call('HGET', KEYS[1], 'v')
local newer = not version or tonumber(ARGV[1]) >= tonumber(version)
if newer then redis.call('HSET', KEYS[1], 'b', ARGV[2], 'v', ARGV[1]) end
for i = 3, #ARGV do drop(KEYS[1], KEYS[2], ARGV[i]) end
return newer and 1 or 0
"""
)

SCRIPTS: Final = {"seed": SEED, "posted": POSTED}


def script_keys(owner_id: str) -> list[str]:
    """KEYS of both scripts: the wallet, then the holds."""
    return [wallet_key(owner_id), holds_key(owner_id)]


def seed_args(*, version: int, balance_picousd: int, now_ms: int) -> list[str]:
    """ARGV of SEED, which loads a wallet from the ledger and counts its holds anew."""
    return [str(version), str(balance_nano(balance_picousd)), str(now_ms)]


def posted_args(*, version: int, balance_picousd: int, request_ids: list[str]) -> list[str]:
    """ARGV of POSTED, which the rater calls after its commit."""
    return [str(version), str(balance_nano(balance_picousd)), *request_ids]
