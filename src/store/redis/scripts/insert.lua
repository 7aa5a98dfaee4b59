-- Stores a user's record and lists the user in the bucket's index, unless there is a record. One slot.
-- KEYS: record, index. ARGV: record, user. Returns the record that was there, or nil.
local there = redis.call('GET', KEYS[1])
if there then return there end
redis.call('SET', KEYS[1], ARGV[1])
redis.call('ZADD', KEYS[2], 0, ARGV[2])
return false
