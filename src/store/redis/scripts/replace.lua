-- Replaces a message, if its bytes start with this head, that is, if it has the version expected. KEYS: message.
-- ARGV: head, new bytes, milliseconds to keep them. Returns 1 if it did, else the bytes that are there, or nil.
local there = redis.call('GET', KEYS[1])
if not there then return false end
if string.sub(there, 1, #ARGV[1]) ~= ARGV[1] then return there end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
return 1
