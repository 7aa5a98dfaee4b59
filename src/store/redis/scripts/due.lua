-- Takes messages that are due, oldest first, and puts them off. KEYS: sorted set of message ids by when they are due.
-- ARGV: now in ms, when they are due again, how many. Returns their ids.
local due = redis.call('ZRANGE', KEYS[1], '-inf', ARGV[1], 'BYSCORE', 'LIMIT', 0, ARGV[3])
for _, id in ipairs(due) do redis.call('ZADD', KEYS[1], ARGV[2], id) end
return due
