"""Lua for Valkey: one call admits a request or refuses it, all or nothing; others settle it and renew its leases.

KEYS of every script: wallet, holds, rations, the key's epoch, then for each scope its gates, slots, spent and spending.

- ``kd:rations:<owner>``: hash of process to ``<nano-dollars>:<expiry>``: what a process may spend while Valkey is away.
- ``kd:recalls``: sorted set of owners by when (ms) one was refused money that processes had set aside.
- ``kd:epoch:<key>``: the newest version of an API key, when it changed lately.
- ``kd:gate:<scope>``: hash of ``r p u g``, the times (µs) at which the buckets of `limits` are full again, and of
  ``rc pc uc gc``, when a bucket was last full; a gate that stays in use is never full, and is forgotten once a day.
- ``kd:slots:<scope>``: sorted set of running requests by the end of their lease (ms).
"""

from typing import Final

from kindling_billing.purses import HELPERS

# Times of gates count from late 2023, which leaves a double some bits for fractions of a microsecond.
_COMMON = (
    HELPERS
    + """
local ORIGIN, FIELDS, RECALLS = 1700000000000000, {'r', 'p', 'u', 'g'}, 'kd:recalls'
local TOKENS = {'p', 'pc', 'u', 'uc', 'g', 'gc'}
-- Twice as long as what has ended may wait to be posted; the hash is gone with its last entry, as a rule.
local SPENDING_MS = 172800000
local function clock_us(text)
  local now = tonumber(text)
  if now > 0 then return now end
  local time = redis.call('TIME')
  return tonumber(time[1]) * 1000000 + tonumber(time[2])
end
local function scope_keys(i)
  local at = 4 + (i - 1) * 4
  return KEYS[at + 1], KEYS[at + 2], KEYS[at + 3], KEYS[at + 4]
end
"""
)

# ARGV: request id, id to take the hold over from (the same, as a rule), now in µs (0: the server's), lease in ms,
# whether this is the request's first call, the key's epoch, prompt in pico-dollars, price of an output token, tokens
# wanted, tokens at least, process, ration wanted in nano-dollars, day, month, number of scopes; for each scope limit,
# burst and units of four buckets, slots, budgets of day, month and all (empty: none).
# A hold that does not grow is never refused: what was promised to a running request stays promised.
ADMIT: Final = (
    _COMMON
    + """
local id, from, now = ARGV[1], ARGV[2], clock_us(ARGV[3])
local now_ms, clock, lease = math.floor(now / 1000), now - ORIGIN, tonumber(ARGV[4])
local first, count = ARGV[5] == '1', tonumber(ARGV[15])

local epoch = redis.call('GET', KEYS[4])
if epoch and tonumber(epoch) > tonumber(ARGV[6]) then return {'stale', epoch} end

local wallet, scopes, unseen = redis.call('HMGET', KEYS[1], 'b', 'h', 'x'), {}, {}
if not wallet[1] then unseen[1] = '0' end
for i = 1, count do
  local at, scope = 15 + (i - 1) * 16, {buckets = {}}
  scope.gate, scope.slots, scope.spent, scope.spending = scope_keys(i)
  scope.at, scope.most = at, tonumber(ARGV[at + 13])
  scope.budgets = {tonumber(ARGV[at + 14]) or false, tonumber(ARGV[at + 15]) or false, tonumber(ARGV[at + 16]) or false}
  if scope.budgets[1] or scope.budgets[2] or scope.budgets[3] then
    scope.purse = redis.call('HMGET', scope.spent, 'v', 'd', 'ds', 'm', 'ms', 't', 'h', 'x')
    if not scope.purse[1] then unseen[#unseen + 1] = num(i) end
  end
  scopes[i] = scope
end
if #unseen > 0 then return {'unseen', table.concat(unseen, ',')} end

local rations, ours, ours_until, others, processes = redis.call('HGETALL', KEYS[3]), 0, 0, 0, 1
for i = 1, #rations, 2 do
  local amount, expiry = split(rations[i + 1])
  if rations[i] == ARGV[11] then
    ours, ours_until = amount, expiry
  elseif expiry <= now_ms then
    redis.call('HDEL', KEYS[3], rations[i])
  else
    others, processes = others + amount, processes + 1
  end
end

local prompt, price, want, least = tonumber(ARGV[7]), tonumber(ARGV[8]), tonumber(ARGV[9]), tonumber(ARGV[10])
local sum, soonest = held(KEYS[1], KEYS[2], wallet[2], wallet[3], now_ms)
local before = amount_of(KEYS[2], from)
local mine = before or 0
local function cost(tokens) return math.ceil((prompt + tokens * price) / 1000) end
local function tokens_for(available)
  local all = cost(want)
  if all <= available or all <= mine then return want end
  if price == 0 then return -1 end
  return math.min(want, math.floor((available * 1000 - prompt) / price))
end
local left = tonumber(wallet[1]) - sum + mine - others
if cost(want) > left and cost(want) > mine then
  sum, soonest = recount(KEYS[1], KEYS[2], now_ms)
  left = tonumber(wallet[1]) - sum + mine - others
end
local tokens, binding = tokens_for(left), nil
for i, scope in ipairs(scopes) do
  if scope.purse then
    local purse = scope.purse
    scope.sum, scope.soonest = held(scope.spent, scope.spending, purse[7], purse[8], now_ms)
    scope.before = amount_of(scope.spending, from)
    local kept = scope.sum - (scope.before or 0)
    local spent = {purse[2] == ARGV[13] and purse[3] or '0', purse[4] == ARGV[14] and purse[5] or '0', purse[6] or '0'}
    for period = 1, 3 do
      if scope.budgets[period] then
        local rest = scope.budgets[period] - tonumber(spent[period]) - kept
        if not scope.left or rest < scope.left then scope.left, scope.period = rest, period end
      end
    end
    local enough = tokens_for(scope.left)
    if enough < tokens then tokens, binding = enough, i end
  end
end

local fresh = first and not before
local longest, blocked, bucket, crowded = 0.5, nil, nil, nil
for i, scope in ipairs(scopes) do
  local gate
  for b = 1, 4 do
    local limit = tonumber(ARGV[scope.at + 3 * b - 2])
    if limit then
      gate = gate or redis.call('HMGET', scope.gate, unpack(FIELDS))
      local burst, units = tonumber(ARGV[scope.at + 3 * b - 1]), tonumber(ARGV[scope.at + 3 * b])
      local per, full = 60000000 / limit, tonumber(gate[b] or '0')
      local charge, clipped = 0, full <= clock
      if clipped then full = clock end
      if fresh then
        charge = math.min(units, burst) * per
        local over = full + charge - clock - burst * per
        if over > longest then longest, blocked, bucket = over, i, b end
      elseif not first then
        charge = units * per
      end
      scope.buckets[b] = {full, charge, clipped}
    end
  end
  if scope.most then
    redis.call('ZREMRANGEBYSCORE', scope.slots, '-inf', now_ms)
    scope.running = redis.call('ZCARD', scope.slots)
    if fresh and scope.running >= scope.most and not crowded then crowded = i end
  end
end

local function reply(state, a, b, c, charged, total)
  local out = {state, a, b, c, num(processes), num(now)}
  for _, scope in ipairs(scopes) do
    for b = 1, 4 do
      local bucket = scope.buckets[b]
      out[#out + 1] = bucket and num(bucket[1] + (charged and bucket[2] or 0) - clock) or ''
    end
    out[#out + 1] = scope.running and num(scope.running + (charged and fresh and 1 or 0)) or ''
    out[#out + 1] = scope.left and num(scope.left - total) or ''
  end
  return out
end
if tokens < least then
  redis.call('HDEL', KEYS[3], ARGV[11])
  local scope = scopes[binding or 0]
  if scope then return reply('budget', num(binding), num(scope.left), num(scope.period), false, 0) end
  if others > 0 and tokens_for(left + others) >= least then
    redis.call('ZADD', RECALLS, now_ms, (string.gsub(KEYS[3], '^kd:rations:', '')))
  end
  return reply('money', '0', num(left), '0', false, 0)
end
if crowded then return reply('slots', num(crowded), '0', num(scopes[crowded].most), false, 0) end
if blocked then return reply('limited', num(blocked), num(longest), num(bucket), false, 0) end

local total = cost(tokens)
local function move(purse, list, old, sum, soonest)
  if from == id then return put(purse, list, id, total, now_ms + lease, old, sum, soonest) end
  drop(purse, list, from)
  put(purse, list, id, total, now_ms + lease, amount_of(list, id))
end
move(KEYS[1], KEYS[2], before, sum, soonest)
for _, scope in ipairs(scopes) do
  local fields, unused = {}, false
  for b, bucket in pairs(scope.buckets) do
    if bucket[2] > 0 then
      fields[#fields + 1] = FIELDS[b]
      fields[#fields + 1] = string.format('%.3f', bucket[1] + bucket[2])
      if bucket[3] then
        unused = true
        fields[#fields + 1] = FIELDS[b] .. 'c'
        fields[#fields + 1] = string.format('%.3f', clock)
      end
    end
  end
  if #fields > 0 then redis.call('HSET', scope.gate, unpack(fields)) end
  if unused then redis.call('PEXPIRE', scope.gate, 86400000) end
  if scope.most then
    if from ~= id then redis.call('ZREM', scope.slots, from) end
    redis.call('ZADD', scope.slots, now_ms + lease, id)
  end
  if scope.purse then
    move(scope.spent, scope.spending, scope.before, scope.sum, scope.soonest)
    redis.call('PEXPIRE', scope.spending, SPENDING_MS)
  end
end
local ration = math.max(math.min(tonumber(ARGV[12]), math.floor((left - total) / 20)), 0)
if ration == ours and ours_until > now_ms + lease / 2 then
  ration = ours
elseif ration > 0 then
  redis.call('HSET', KEYS[3], ARGV[11], num(ration) .. ':' .. num(now_ms + lease))
  redis.call('PEXPIRE', KEYS[3], 2 * lease)
elseif ours > 0 then
  redis.call('HDEL', KEYS[3], ARGV[11])
end
return reply('held', num(tokens), num(left - total), num(ration), true, total)
"""
)

# ARGV: request id, now in µs, what it costs in nano-dollars (empty: all that it holds; -1: nothing), how long that is
# kept for the rater in ms, when it was admitted in µs, whether to note the cost even if no hold is there, number of
# scopes; for each scope limit and correction of three token buckets, and whether the books count its spending.
# Without the flag nothing happens to money when the rater was faster. What was charged before a bucket was last full
# is worth nothing by now, so it is not given back.
FINISH: Final = (
    _COMMON
    + """
local id, now, admitted = ARGV[1], clock_us(ARGV[2]), tonumber(ARGV[5])
local expiry = math.floor(now / 1000) + tonumber(ARGV[4])
local function finish(purse, list, booked)
  local old = amount_of(list, id)
  local cost = tonumber(ARGV[3]) or old or 0
  if not old and ARGV[6] ~= '1' then return end
  if cost < 0 or not booked then drop(purse, list, id) else put(purse, list, id, cost, expiry, old) end
  if cost > 0 and not booked and redis.call('HEXISTS', purse, 'v') == 1 then
    redis.call('HINCRBY', purse, 't', num(cost))
  end
end
finish(KEYS[1], KEYS[2], true)
for i = 1, tonumber(ARGV[7]) do
  local at = 7 + (i - 1) * 7
  local gate, slots, spent, spending = scope_keys(i)
  redis.call('ZREM', slots, id)
  finish(spent, spending, ARGV[at + 7] == '1')
  local states, moved = nil, {}
  for b = 2, 4 do
    local limit, units = tonumber(ARGV[at + 2 * b - 3]), tonumber(ARGV[at + 2 * b - 2])
    if limit and units ~= 0 and admitted > 0 then
      states = states or redis.call('HMGET', gate, unpack(TOKENS))
      local state, clipped = states[2 * b - 3], states[2 * b - 2]
      local late = tonumber(clipped or '-1') > admitted - ORIGIN
      if units > 0 or (state and not late) then
        local full = math.max(tonumber(state or '0'), units > 0 and now - ORIGIN or 0)
        moved[#moved + 1] = FIELDS[b]
        moved[#moved + 1] = string.format('%.3f', full + units * 60000000 / limit)
      end
    end
  end
  if #moved > 0 then redis.call('HSET', gate, unpack(moved)) end
end
return 1
"""
)

# ARGV: request id, now in µs, lease in ms, the hold in nano-dollars to put back where it is lost (empty: touch only
# what is there, for the rater may have removed it), number of scopes; for each scope whether it counts slots and money.
RENEW: Final = (
    _COMMON
    + """
local id, expiry, lost = ARGV[1], math.floor(clock_us(ARGV[2]) / 1000) + tonumber(ARGV[3]), tonumber(ARGV[4])
local function renew(purse, list)
  local old = amount_of(list, id)
  local amount = old or lost
  if amount then put(purse, list, id, amount, expiry, old) end
  return amount
end
local found = renew(KEYS[1], KEYS[2])
if not found then return 0 end
for i = 1, tonumber(ARGV[5]) do
  local at, _, slots, spent, spending = 5 + (i - 1) * 2, scope_keys(i)
  if ARGV[at + 1] == '1' then
    redis.call('ZADD', slots, expiry, id)
  end
  if ARGV[at + 2] == '1' and renew(spent, spending) then
    redis.call('PEXPIRE', spending, SPENDING_MS)
  end
end
return 1
"""
)

# KEYS: the mark, the recalls. ARGV: a word. The first to come leaves its word; a change tells that the server was
# emptied. After it come the owners that were refused within ten seconds, by which all processes have looked.
LOOK: Final = """
redis.call('SET', KEYS[1], ARGV[1], 'NX')
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', tonumber(redis.call('TIME')[1]) * 1000 - 10000)
return {redis.call('GET', KEYS[1]), unpack(redis.call('ZRANGE', KEYS[2], -1000, -1))}
"""

# KEYS: the rations. ARGV: the process that needs its own no more.
GIVE_BACK: Final = "return redis.call('HDEL', KEYS[1], ARGV[1])"

SCRIPTS: Final = {"admit": ADMIT, "finish": FINISH, "renew": RENEW, "look": LOOK, "give_back": GIVE_BACK}
LOOK_KEYS: Final = ("kd:mark", "kd:recalls")


def epoch_key(key_id: str) -> str:
    """Name of the newest version of an API key."""
    return f"kd:epoch:{key_id}"


def rations_key(owner_id: str) -> str:
    """Name of the hash with what processes may spend while the server is away."""
    return f"kd:rations:{owner_id}"
