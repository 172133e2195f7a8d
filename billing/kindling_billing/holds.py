"""Holds: the money that requests in flight may still spend, kept in Valkey beside a copy of the balance.

Pure: key names, Lua texts and argument builders; the callers bring their own client. Two keys per owner,

- ``kd:wallet:<owner>``: hash of ``b`` (balance in nano-dollars, rounded down), ``v`` (the ledger account's
  version), ``h`` (sum of the holds) and ``x`` (when to look for expired holds, ms);
- ``kd:holds:<owner>``: hash of request id to ``<nano-dollars>:<expiry in ms>``.

Available money is ``b - h``. Only the scripts below write these keys, so that ``h`` stays the sum of the
second hash; a refusal, an expiry and every seed count it anew. Numbers travel as text, because Lua's
numbers are doubles; sums are exact up to nine million dollars.
"""

from dataclasses import dataclass
from typing import Final

PICO_PER_NANO: Final = 1000
NEVER_SEEN: Final = -1
REFUSED: Final = 0
HELD: Final = 1


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


# `held` trusts the running sum while no hold can have expired, and counts again when one may have.
_HELPERS = """
local function num(x) return string.format('%.0f', x) end
local function split(text)
  local amount, expiry = string.match(text, '^(%d+):(%d+)$')
  return tonumber(amount), tonumber(expiry)
end
local function recount(now)
  local all, sum, soonest = redis.call('HGETALL', KEYS[2]), 0, nil
  for i = 1, #all, 2 do
    local amount, expiry = split(all[i + 1])
    if expiry <= now then
      redis.call('HDEL', KEYS[2], all[i])
    else
      sum = sum + amount
      if not soonest or expiry < soonest then soonest = expiry end
    end
  end
  redis.call('HSET', KEYS[1], 'h', num(sum), 'x', num(soonest or now + 1000))
  return sum
end
local function drop(id)
  local old = redis.call('HGET', KEYS[2], id)
  if not old then return 0 end
  redis.call('HDEL', KEYS[2], id)
  if redis.call('HEXISTS', KEYS[1], 'h') == 1 then
    local held = tonumber(redis.call('HGET', KEYS[1], 'h')) - split(old)
    redis.call('HSET', KEYS[1], 'h', num(math.max(held, 0)))
  end
  return 1
end
local function put(id, amount, expiry)
  drop(id)
  redis.call('HSET', KEYS[2], id, num(amount) .. ':' .. num(expiry))
  if redis.call('HEXISTS', KEYS[1], 'h') == 1 then
    local wallet = redis.call('HMGET', KEYS[1], 'h', 'x')
    redis.call('HSET', KEYS[1], 'h', num(tonumber(wallet[1]) + amount),
      'x', num(math.min(tonumber(wallet[2]), expiry)))
  end
end
"""

# ARGV: request id, hold in nano-dollars (the request's total, not an increment), now in ms, lease in ms.
# A hold that does not grow is never refused: what was promised to a running request stays promised.
ACQUIRE: Final = (
    _HELPERS
    + """
local wallet = redis.call('HMGET', KEYS[1], 'b', 'h', 'x')
if not wallet[1] then return {-1, '0'} end
local id, total, now, lease = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local held = tonumber(wallet[2] or '')
if not held or now >= tonumber(wallet[3] or '0') then held = recount(now) end
local mine = 0
local old = redis.call('HGET', KEYS[2], id)
if old then mine = split(old) end
local available = tonumber(wallet[1]) - held + mine
if total > available and total > mine then
  available = tonumber(wallet[1]) - recount(now) + mine
  if total > available then return {0, num(available)} end
end
put(id, total, now + lease)
return {1, num(available - total)}
"""
)

# ARGV: request id, expiry in ms. Only touches a hold which is there: the rater may have removed it.
RENEW: Final = (
    _HELPERS
    + """
local old = redis.call('HGET', KEYS[2], ARGV[1])
if not old then return 0 end
put(ARGV[1], (split(old)), tonumber(ARGV[2]))
return 1
"""
)

# ARGV: request id, actual cost in nano-dollars, expiry in ms. Does nothing when the rater was faster.
SETTLE: Final = (
    _HELPERS
    + """
if redis.call('HEXISTS', KEYS[2], ARGV[1]) == 0 then return 0 end
put(ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]))
return 1
"""
)

# ARGV: request id.
RELEASE: Final = _HELPERS + "return drop(ARGV[1])"

# ARGV: version, balance in nano-dollars, now in ms. An older version never replaces a newer one.
SEED: Final = (
    _HELPERS
    + """
local version = redis.call('HGET', KEYS[1], 'v')
local newer = not version or tonumber(ARGV[1]) >= tonumber(version)
if newer then redis.call('HSET', KEYS[1], 'b', ARGV[2], 'v', ARGV[1]) end
recount(tonumber(ARGV[3]))
return newer and 1 or 0
"""
)

# ARGV: version, balance in nano-dollars, then the request ids which that balance has been charged for.
POSTED: Final = (
    _HELPERS
    + """
local version = redis.call('HGET', KEYS[1], 'v')
local newer = not version or tonumber(ARGV[1]) >= tonumber(version)
if newer then redis.call('HSET', KEYS[1], 'b', ARGV[2], 'v', ARGV[1]) end
for i = 3, #ARGV do drop(ARGV[i]) end
return newer and 1 or 0
"""
)

SCRIPTS: Final = {
    "acquire": ACQUIRE,
    "renew": RENEW,
    "settle": SETTLE,
    "release": RELEASE,
    "seed": SEED,
    "posted": POSTED,
}


@dataclass(frozen=True, slots=True)
class HoldReply:
    """What ACQUIRE said: `state` is HELD, REFUSED or NEVER_SEEN; money in nano-dollars."""

    state: int
    available_nano: int


def script_keys(owner_id: str) -> list[str]:
    """KEYS of every script: the wallet, then the holds."""
    return [wallet_key(owner_id), holds_key(owner_id)]


def acquire_args(*, request_id: str, total_nano: int, now_ms: int, lease_ms: int) -> list[str]:
    """ARGV of ACQUIRE; `total_nano` replaces what the request held before."""
    return [request_id, str(total_nano), str(now_ms), str(lease_ms)]


def acquire_reply(raw: list[object]) -> HoldReply:
    """Read ACQUIRE's reply, `[state, available]`."""
    state, available = raw
    text = available.decode() if isinstance(available, bytes) else str(available)
    return HoldReply(state=int(str(state)), available_nano=int(text))


def renew_args(*, request_id: str, expires_ms: int) -> list[str]:
    """ARGV of RENEW."""
    return [request_id, str(expires_ms)]


def settle_args(*, request_id: str, actual_nano: int, expires_ms: int) -> list[str]:
    """ARGV of SETTLE; the hold stays at its actual cost until the rater has posted it or it expires."""
    return [request_id, str(actual_nano), str(expires_ms)]


def release_args(*, request_id: str) -> list[str]:
    """ARGV of RELEASE."""
    return [request_id]


def seed_args(*, version: int, balance_picousd: int, now_ms: int) -> list[str]:
    """ARGV of SEED, which loads a wallet from the ledger and counts its holds anew."""
    return [str(version), str(balance_nano(balance_picousd)), str(now_ms)]


def posted_args(*, version: int, balance_picousd: int, request_ids: list[str]) -> list[str]:
    """ARGV of POSTED, which the rater calls after its commit."""
    return [str(version), str(balance_nano(balance_picousd)), *request_ids]
