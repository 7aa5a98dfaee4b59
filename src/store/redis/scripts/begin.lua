-- Reserves a request, if nothing is known of it. KEYS: entry. ARGV: reservation, milliseconds to hold it.
-- Returns nil if it was reserved, else {what is known, milliseconds until that is forgotten}.
local known = redis.call('GET', KEYS[1])
if known then return { known, redis.call('PTTL', KEYS[1]) } end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return false
