"""Lua scripts of a live site: what workers say is taken once, and what a matcher decides is stored in one step.

Each script runs alone inside the server, so it is atomic for every other client. All its keys lie in the site's slot.
"""

from __future__ import annotations

from st_model.store_scripts import COMMON

PUBLISH = """
-- KEYS: schema, sightings, sent. ARGV: schema; most entries; lifetime_s; '1' = go on although Redis has lost some;
-- then per message its number, the number of the one before it, its content.
-- A number that was taken before is skipped; one whose predecessor was not taken is refused.
-- Reply: {number of the last message taken, 'OK' | 'FULL' | 'GAP', entries waiting}
local call = redis.call
local held = call('GET', KEYS[1])
if held and held ~= ARGV[1] then return redis.error_reply('SCHEMA ' .. held) end
local last, room = tonumber(call('GET', KEYS[3]) or '0'), tonumber(ARGV[2]) - call('XLEN', KEYS[2])
local state = 'OK'
for i = 5, #ARGV, 3 do
  local number = tonumber(ARGV[i])
  if number > last then
    if tonumber(ARGV[i + 1]) ~= last and ARGV[4] ~= '1' then state = 'GAP' break end
    if room <= 0 then state = 'FULL' break end
    call('XADD', KEYS[2], '*', 'm', ARGV[i + 2])
    last, room = number, room - 1
  end
end
call('SET', KEYS[3], string.format('%.0f', last), 'EX', ARGV[3])
return {last, state, call('XLEN', KEYS[2])}
"""

LEASE = """
-- KEYS: lease, fence. ARGV: who, milliseconds. Reply: the fence of the one who asks, or 0: somebody else is active.
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
if holder then return tonumber(redis.call('GET', KEYS[2]) or '0') end
return redis.call('INCR', KEYS[2])
"""

RELEASE = """
-- KEYS: lease. ARGV: who
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0
"""

TURN = (
    COMMON
    + """
-- KEYS: schema, axes, version, index, fence, lease, state, sightings, decisions, events, progress, mark, exits; then a
-- holder per person, counts hashes
-- ARGV, read one after the other: schema; bin_s, origin_s, bins, epoch_s, one; fence; who; lease in ms; number of the
-- turn; lifetime_s; length of the key prefix before FROM:TO:EPOCH; group; most decisions; most events; exits that are
-- kept, and for how many milliseconds; lifetime of a holder in seconds; area; then lists, each with its length first:
-- holders (number to claim or '', value after), exits (kind, content), mark (content, at most one), state (name, value;
-- '' = removed), entries decided, decisions (kind, content), events (content), progress (worker, number); then per
-- counts hash "bin count bin count ..."
-- Reply: {version of the tables, 1 if this call did the turn and 0 if it was done before, entries held by the group};
-- or with -1 nothing was stored: claims that somebody else holds follow, as places in the list of holders
local at = 0
local function take() at = at + 1 return ARGV[at] end
local schema = take()
local wrong = misfit(KEYS[1], schema, KEYS[2], {take(), take(), take(), take(), take()})
if wrong then return wrong end
local fence, who, lease_ms, turn = take(), take(), take(), tonumber(take())
if call('GET', KEYS[5]) ~= fence then return redis.error_reply('FENCED ' .. fence) end
call('SET', KEYS[6], who, 'PX', lease_ms)
local lifetime, skip, group = take(), tonumber(take()) + 1, take()
local most_decisions, most_events = take(), take()
local done = tonumber(call('HGET', KEYS[7], 'position') or '0')
local function held() return call('XPENDING', KEYS[8], group)[1] end
if done == turn then return {tonumber(call('GET', KEYS[3]) or '0'), 0, held()} end
if done ~= turn - 1 then return redis.error_reply('TURN ' .. done) end
if foreign(KEYS[4], 'zset') then return redis.error_reply('WRONGTYPE ' .. KEYS[4]) end
-- A claim that is lost leaves everything as it was, so claims are looked at first.
local most_exits, keep_ms, holding, area = take(), take(), take(), take()
local people = tonumber(take())
local first_counts = 14 + people
for k = 12, #KEYS do
  local kind = k < 14 and 'stream' or k < first_counts and 'string' or 'hash'
  if foreign(KEYS[k], kind) then return redis.error_reply('WRONGTYPE ' .. KEYS[k]) end
end
local holders, lost = {}, {tonumber(call('GET', KEYS[3]) or '0'), -1, held()}
for i = 1, people do
  local claimed = tonumber(take())
  holders[i] = take()
  local holder = claimed and call('GET', KEYS[13 + i])
  if holder then
    local number, who_holds = string.match(holder, '^(%d+):(.*)$')
    number = tonumber(number)
    if number > claimed or (number == claimed and who_holds ~= '' and who_holds ~= area) then table.insert(lost, i) end
  end
end
if #lost > 3 then return lost end
for i = 1, people do call('SET', KEYS[13 + i], holders[i], 'EX', holding) end
local version = tonumber(call('GET', KEYS[3]) or '0')
if #KEYS >= first_counts then version = call('INCR', KEYS[3]) end
local items = tonumber(take())
for _ = 1, items do
  call('XADD', KEYS[13], 'MAXLEN', '~', most_exits, '*', 'v', version, 'k', take(), 'm', take())
end
if items > 0 then
  call('XTRIM', KEYS[13], 'MINID', string.format('%.0f', math.max(0, call('TIME')[1] * 1000 - keep_ms)))
  call('PEXPIRE', KEYS[13], keep_ms)
end
for _ = 1, tonumber(take()) do
  call('XADD', KEYS[12], 'MAXLEN', 1, '*', 'm', take())
  call('EXPIRE', KEYS[12], lifetime)
end

call('HSET', KEYS[7], 'position', string.format('%.0f', turn))
for _ = 1, tonumber(take()) do
  local name, value = take(), take()
  if value == '' then call('HDEL', KEYS[7], name) else call('HSET', KEYS[7], name, value) end
end
call('EXPIRE', KEYS[7], lifetime)
for _ = 1, tonumber(take()) do
  local entry = take()
  call('XACK', KEYS[8], group, entry)
  call('XDEL', KEYS[8], entry)
end
for _ = 1, tonumber(take()) do
  local n = call('HINCRBY', KEYS[7], 'said', 1)  -- so that a reader sees when it has missed some
  call('XADD', KEYS[9], 'MAXLEN', '~', most_decisions, '*', 'n', n, 'k', take(), 'm', take())
end
call('EXPIRE', KEYS[9], lifetime)
for _ = 1, tonumber(take()) do call('XADD', KEYS[10], 'MAXLEN', '~', most_events, '*', 'm', take()) end
call('EXPIRE', KEYS[10], lifetime)
for _ = 1, tonumber(take()) do call('HSET', KEYS[11], take(), take()) end
call('EXPIRE', KEYS[11], lifetime)
for k = first_counts, #KEYS do count(KEYS[k], take(), lifetime, KEYS[4], version, skip) end
return {version, 1, held()}
"""
)
