"""Lua that every script on money in Valkey begins with: a purse is a running sum and the hash of what it sums."""

from typing import Final

# A purse is a hash with a sum `h` and a hash with what it sums. `held` trusts the sum while no hold can have
# expired, and counts again when one may have.
HELPERS: Final = """
local function num(x) return string.format('%.0f', x) end
local function split(text)
  local amount, expiry = string.match(text, '^(%d+):(%d+)$')
  return tonumber(amount), tonumber(expiry)
end
-- Both give the sum and when to look for expired holds.
local function recount(purse, list, now)
  local all, sum, soonest = redis.call('HGETALL', list), 0, nil
  for i = 1, #all, 2 do
    local amount, expiry = split(all[i + 1])
    if expiry <= now then
      redis.call('HDEL', list, all[i])
    else
      sum = sum + amount
      if not soonest or expiry < soonest then soonest = expiry end
    end
  end
  soonest = soonest or now + 1000
  redis.call('HSET', purse, 'h', num(sum), 'x', num(soonest))
  return sum, soonest
end
local function held(purse, list, h, x, now)
  local sum, soonest = tonumber(h or ''), tonumber(x or '0')
  if not sum or now >= soonest then return recount(purse, list, now) end
  return sum, soonest
end
local function amount_of(list, id)
  local old = redis.call('HGET', list, id)
  if old then return (split(old)) end
  return nil
end
local function drop(purse, list, id)
  local old = amount_of(list, id)
  if not old then return nil end
  redis.call('HDEL', list, id)
  local sum = tonumber(redis.call('HGET', purse, 'h') or '')
  if sum then redis.call('HSET', purse, 'h', num(math.max(sum - old, 0))) end
  return old
end
-- `old` is what the hold was before, nil for none; the sum and its `soonest` where they are known.
local function put(purse, list, id, amount, expiry, old, sum, soonest)
  redis.call('HSET', list, id, num(amount) .. ':' .. num(expiry))
  if not soonest then
    local sums = redis.call('HMGET', purse, 'h', 'x')
    sum, soonest = tonumber(sums[1] or ''), tonumber(sums[2] or '0')
  end
  if sum then
    redis.call('HSET', purse, 'h', num(math.max(sum - (old or 0), 0) + amount), 'x', num(math.min(soonest, expiry)))
  end
end
"""
