"""Lua scripts of the Redis event log. A script is one step for every other client, and one
transaction in the append-only file. ARGV[1] is the prefix of the keys, ARGV[2] the seconds that
what was seen is remembered."""

#: A user's newest events are kept beside the log: at most so many.
RECENT_EVENTS = 1_000

#: permitted(digest of the user, time) and next_number(stream).
_SHARED = """
local states = {}
local function permitted(digest, time)
  if digest == '' then return true end
  local state = states[digest]
  if state == nil then
    state = redis.call('HGET', ARGV[1] .. ':standings', digest)
    states[digest] = state
  end
  if not state then return true end
  local forgotten, out = string.match(state, '^(-?%d*) (%d)$')
  return out == '0' and (forgotten == '' or tonumber(time) > tonumber(forgotten))
end
local function next_number(stream)
  return string.format('%.0f', redis.call('HINCRBY', ARGV[1] .. ':last', stream, 1))
end
"""
#: For each event: digest of its id, digest of its user, user id, time, encoded event.
APPEND = f"""{_SHARED}
local accepted, duplicates, dropped = 0, 0, 0
for i = 3, #ARGV, 5 do
  local event, user, name, time, row = ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3], ARGV[i + 4]
  local seen = ARGV[1] .. ':event:' .. event
  if not permitted(user, time) then dropped = dropped + 1
  elseif not redis.call('SET', seen, 1, 'NX', 'EX', ARGV[2]) then duplicates = duplicates + 1
  else
    local n, recent = next_number('interactions'), ARGV[1] .. ':recent:' .. user
    redis.call('XADD', ARGV[1] .. ':interactions', n .. '-0', 'u', name, 'v', row)
    redis.call('ZADD', recent, time, string.rep('0', 16 - #n) .. n .. row)
    redis.call('ZREMRANGEBYRANK', recent, 0, -{RECENT_EVENTS + 1})
    redis.call('EXPIRE', recent, ARGV[2])
    accepted = accepted + 1
  end
end
return {{accepted, duplicates, dropped}}
"""
#: For each: digest of its request id, digest of its user, user id, time, encoded fields, features.
APPEND_IMPRESSIONS = f"""{_SHARED}
for i = 3, #ARGV, 6 do
  local request, user, name, time = ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3]
  local seen = ARGV[1] .. ':request:' .. request
  if permitted(user, time) and redis.call('EXISTS', seen) == 0 then
    local n = next_number('impressions')
    redis.call('SET', seen, n, 'EX', ARGV[2])
    redis.call('XADD', ARGV[1] .. ':impressions', n .. '-0',
      'u', name, 'v', ARGV[i + 4], 'f', ARGV[i + 5])
  end
end
"""
#: The ids of a user's entries among the next 500 of a stream, and where to resume ('' at the end).
FIND_USER_ENTRIES = """
local ids, last = {}, ''
for _, entry in ipairs(redis.call('XRANGE', KEYS[1], ARGV[1], '+', 'COUNT', 500)) do
  if entry[2][2] == ARGV[2] then ids[#ids + 1] = entry[1] end
  last = entry[1]
end
return {last, ids}
"""
#: ARGV[2] and ARGV[3]: the numbers up to which interactions and impressions are archived.
ACKNOWLEDGE = """
for _, stream in ipairs({'interactions', 'impressions'}) do
  local position = ARGV[stream == 'interactions' and 2 or 3]
  if tonumber(position) > tonumber(redis.call('HGET', ARGV[1] .. ':archived', stream) or '0') then
    redis.call('HSET', ARGV[1] .. ':archived', stream, position)
    if tonumber(position) > tonumber(redis.call('HGET', ARGV[1] .. ':last', stream) or '0') then
      redis.call('HSET', ARGV[1] .. ':last', stream, position)
    end
    local first_left = string.format('%.0f', tonumber(position) + 1)
    redis.call('XTRIM', ARGV[1] .. ':' .. stream, 'MINID', '=', first_left)
  end
end
"""
#: KEYS[1]: the lock; ARGV: the token, and for how many milliseconds.
ACQUIRE_LEASE = """
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
"""
RELEASE_LEASE = "if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end"
