-- The end of the log of events, which begins if there is none. KEYS: head. ARGV: a name for a new log.
-- Returns `name:ms:number`.
local head = redis.call('GET', KEYS[1])
if head then return head end
head = ARGV[1] .. ':0:0'
redis.call('SET', KEYS[1], head)
return head
