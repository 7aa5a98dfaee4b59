-- Records an outcome, unless the request has one or the id became another request's. KEYS: entry.
-- ARGV: outcome entry, milliseconds to keep it, the reservation. Returns 1 if it was recorded, else 0.
local known = redis.call('GET', KEYS[1])
if known and known ~= ARGV[3] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
