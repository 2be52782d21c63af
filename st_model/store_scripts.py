"""Lua scripts: what must happen in Redis in one step.

Each script runs alone inside the server, so it is atomic for every other client. All its keys lie in the site's slot.
"""

from __future__ import annotations

COMMON = """
local call = redis.call
-- Whether the site fits: nil, or the error to reply. A new site gets the schema and, unless bin_s is '', the axes.
local function misfit(schema_key, schema, axes_key, wanted)
  local held = call('GET', schema_key)
  if held and held ~= schema then return redis.error_reply('SCHEMA ' .. held) end
  if wanted[1] ~= '' then
    local names = {'bin_s', 'origin_s', 'bins', 'epoch_s', 'one'}
    local axes = call('HMGET', axes_key, unpack(names))
    for i = 1, 5 do
      if axes[1] and axes[i] ~= wanted[i] then
        return redis.error_reply(string.format('AXES bin_s %s, origin_s %s, bins %s, epoch_s %s, one %s',
          axes[1], tostring(axes[2]), tostring(axes[3]), tostring(axes[4]), tostring(axes[5])))
      end
      if not axes[1] then call('HSET', axes_key, names[i], wanted[i]) end
    end
  end
  if not held then call('SET', schema_key, schema) end
end
-- A script that fails half-way keeps what it wrote. So types are looked at before the first write.
local function foreign(key, wanted)
  local kind = call('TYPE', key).ok
  return kind ~= wanted and kind ~= 'none'
end
-- Adds "bin count bin count ..." to the hash of one pair and epoch.
local function count(key, text, lifetime, index, version, skip)
  for bin, n in string.gmatch(text, '(%S+) (%S+)') do
    -- a bin that returns to zero goes: add then retract leaves the very same hash
    if call('HINCRBY', key, bin, n) == 0 then call('HDEL', key, bin) end
  end
  call('EXPIRE', key, lifetime)
  call('ZADD', index, version, string.sub(key, skip))
end
"""

FLUSH = (
    COMMON
    + """
-- KEYS: schema, axes, version, index, batch, state, then one counts hash per pair and epoch
-- ARGV: schema; bin_s, origin_s, bins, epoch_s, one ('' = take them as they are); batch; lifetime_s; length of the key
--       prefix before FROM:TO:EPOCH; state position ('' = none); number of state arguments; these as name, value
--       pairs ('' = removed); then per counts hash "bin count bin count ..."
-- Reply: {version, 1 if this call counted the batch, else 0}
local wrong = misfit(KEYS[1], ARGV[1], KEYS[2], {ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6]})
if wrong then return wrong end
local done = tonumber(call('GET', KEYS[5]) or '0')
if tonumber(ARGV[7]) <= done then return {tonumber(call('GET', KEYS[3]) or '0'), 0} end

if foreign(KEYS[4], 'zset') then return redis.error_reply('WRONGTYPE ' .. KEYS[4]) end
for k = 6, #KEYS do
  if foreign(KEYS[k], 'hash') then return redis.error_reply('WRONGTYPE ' .. KEYS[k]) end
end

local lifetime = ARGV[8]
local version = call('INCR', KEYS[3])
call('SET', KEYS[5], ARGV[7], 'EX', lifetime)
local states = tonumber(ARGV[11])
for i = 12, 11 + states, 2 do
  if ARGV[i + 1] == '' then call('HDEL', KEYS[6], ARGV[i]) else call('HSET', KEYS[6], ARGV[i], ARGV[i + 1]) end
end
if ARGV[10] ~= '' then
  call('HSET', KEYS[6], 'position', ARGV[10])
  call('EXPIRE', KEYS[6], lifetime)
end
local skip, offset = tonumber(ARGV[9]) + 1, 12 + states - 7
for k = 7, #KEYS do count(KEYS[k], ARGV[offset + k], lifetime, KEYS[4], version, skip) end
return {version, 1}
"""
)

RESERVE = """
-- KEYS: counter; ARGV: how many, an id known to be in use. A counter that fell back (an old backup was restored)
-- is lifted over the ids in use first, so that none is given twice.
if tonumber(redis.call('GET', KEYS[1]) or '0') < tonumber(ARGV[2]) then redis.call('SET', KEYS[1], ARGV[2]) end
return redis.call('INCRBY', KEYS[1], ARGV[1])
"""

GIVE_BACK = """
-- KEYS: counter; ARGV: last id used, last id reserved. Only if nobody reserved after us.
if redis.call('GET', KEYS[1]) == ARGV[2] then redis.call('SET', KEYS[1], ARGV[1]) return 1 end
return 0
"""

RESET = """
-- KEYS: axes, version, index, state; ARGV: counts prefix, then axes as name, value pairs (may be none)
for _, name in ipairs(redis.call('ZRANGE', KEYS[3], 0, -1)) do redis.call('UNLINK', ARGV[1] .. name) end
redis.call('DEL', KEYS[1], KEYS[3], KEYS[4])
local version = redis.call('INCR', KEYS[2])
redis.call('HSET', KEYS[1], 'reset_version', version)
for i = 2, #ARGV, 2 do redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1]) end
return version
"""

PRUNE = """
-- KEYS: index; ARGV: counts prefix, then FROM:TO:EPOCH of hashes that were found empty (their epoch has expired)
for i = 2, #ARGV do
  if redis.call('EXISTS', ARGV[1] .. ARGV[i]) == 0 then redis.call('ZREM', KEYS[1], ARGV[i]) end
end
"""
