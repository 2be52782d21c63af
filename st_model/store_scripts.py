"""Lua scripts: what must happen in Redis in one step.

Each script runs alone inside the server, so it is atomic for every other client. All its keys lie in the site's slot.
"""

from __future__ import annotations

FLUSH = """
-- KEYS: schema, axes, version, index, batch, state, then one counts hash per pair and epoch
-- ARGV: schema; bin_s, origin_s, bins, epoch_s, one ('' = take them as they are); batch; lifetime_s; length of the key
--       prefix before FROM:TO:EPOCH; state position ('' = none); number of state arguments; these as name, value
--       pairs ('' = removed); then per counts hash "bin count bin count ..."
-- Reply: {version, 1 if this call counted the batch, else 0}
local call = redis.call
local schema = call('GET', KEYS[1])
if schema and schema ~= ARGV[1] then return redis.error_reply('SCHEMA ' .. schema) end
if ARGV[2] ~= '' then
  local axes = call('HMGET', KEYS[2], 'bin_s', 'origin_s', 'bins', 'epoch_s', 'one')
  if not axes[1] then
    call('HSET', KEYS[2], 'bin_s', ARGV[2], 'origin_s', ARGV[3], 'bins', ARGV[4], 'epoch_s', ARGV[5], 'one', ARGV[6])
  else
    for i = 1, 5 do
      if axes[i] ~= ARGV[i + 1] then
        return redis.error_reply(string.format('AXES bin_s %s, origin_s %s, bins %s, epoch_s %s, one %s',
          axes[1], tostring(axes[2]), tostring(axes[3]), tostring(axes[4]), tostring(axes[5])))
      end
    end
  end
end
if not schema then call('SET', KEYS[1], ARGV[1]) end
local done = tonumber(call('GET', KEYS[5]) or '0')
if tonumber(ARGV[7]) <= done then return {tonumber(call('GET', KEYS[3]) or '0'), 0} end

-- A script that fails half-way keeps what it wrote. So the types are looked at before the first count is written.
local function foreign(key, wanted)
  local kind = call('TYPE', key).ok
  return kind ~= wanted and kind ~= 'none'
end
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
for k = 7, #KEYS do
  local key = KEYS[k]
  for bin, count in string.gmatch(ARGV[offset + k], '(%S+) (%S+)') do
    -- a bin that returns to zero goes: add then retract leaves the very same hash
    if call('HINCRBY', key, bin, count) == 0 then call('HDEL', key, bin) end
  end
  call('EXPIRE', key, lifetime)
  call('ZADD', KEYS[4], version, string.sub(key, skip))
end
return {version, 1}
"""

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
