-- Gives nobody anything from a fair budget for a while. KEYS: budget, as `fair.lua` explains it.
-- ARGV: now in ms or nothing, milliseconds. Returns 1.
local now = tonumber(ARGV[1])
if not now then
  local time = redis.call('TIME')
  now = time[1] * 1000 + math.floor(time[2] / 1000)
end
local there = redis.call('GET', KEYS[1])
local bucket = there and cjson.decode(there) or { seen = now, paused = 0, callers = {} }
local back = math.max(0, bucket.seen - now)
-- What was paused by a clock that was set back is moved by the next take; here it must not grow.
bucket.paused = math.max(bucket.paused, now + back + tonumber(ARGV[2]))
local left = math.max(redis.call('PTTL', KEYS[1]), tonumber(ARGV[2]))
redis.call('SET', KEYS[1], cjson.encode(bucket), 'PX', string.format('%.0f', left))
return 1
