-- Grants a lease, if nobody holds it. One slot. KEYS: lease, fence counter. ARGV: holder, milliseconds.
-- Returns {1, fence} or {0, milliseconds it is held for}.
-- The counter is shared by a bucket and starts at the time, so that fences grow even after the store was emptied.
if redis.call('EXISTS', KEYS[1]) == 1 then return { 0, redis.call('PTTL', KEYS[1]) } end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local fence = math.max(now, tonumber(redis.call('GET', KEYS[2]) or 0) + 1)
redis.call('SET', KEYS[2], string.format('%.0f', fence))
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return { 1, fence }
