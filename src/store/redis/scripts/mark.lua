-- Marks the store as set up, unless it is. KEYS: marker. ARGV: a new marker. Returns the marker.
local there = redis.call('GET', KEYS[1])
if there then return there end
redis.call('SET', KEYS[1], ARGV[1])
return ARGV[1]
