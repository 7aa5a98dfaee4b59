-- Removes a message, if its bytes start with this head, that is, if it has the version expected. KEYS: message.
-- ARGV: head. Returns 1 if it did, else 0.
local there = redis.call('GET', KEYS[1])
if not there or string.sub(there, 1, #ARGV[1]) ~= ARGV[1] then return 0 end
return redis.call('DEL', KEYS[1])
