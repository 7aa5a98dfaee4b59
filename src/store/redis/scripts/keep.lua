-- Keeps a new message, unless there is one of that id. KEYS: message. ARGV: bytes, milliseconds to keep them.
-- Returns the bytes that were there, or nil.
local there = redis.call('GET', KEYS[1])
if there then return there end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return false
