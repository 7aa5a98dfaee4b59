-- Appends an event, unless its key was used before and is remembered. One slot. KEYS: stream, head, key of the event.
-- ARGV: event, milliseconds to remember the key, milliseconds to keep events, how many at most, a name for a new log.
-- An id in the stream is `<ms>-<number>`: the time, and the number of the event in the log, from 1 without a gap, which
-- is how a reader sees that something is missing. The head holds `name:ms:number` of the log and its last event.
-- Returns nil if the key is remembered, else the log's name and the id.
if not redis.call('SET', KEYS[3], '1', 'PX', ARGV[2], 'NX') then return false end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local log, last, number = string.match(redis.call('GET', KEYS[2]) or '', '^(%x+):(%d+):(%d+)$')
if not log then log, last, number = ARGV[5], '0', '0' end
-- A new log, whatever is left of an old one.
if number == '0' then redis.call('DEL', KEYS[1]) end
-- A clock that was set back does not take the log back.
local ms = string.format('%.0f', math.max(now, tonumber(last)))
number = string.format('%.0f', tonumber(number) + 1)
local id = ms .. '-' .. number
redis.call('XADD', KEYS[1], id, 'e', ARGV[1])
redis.call('SET', KEYS[2], log .. ':' .. ms .. ':' .. number)
redis.call('XTRIM', KEYS[1], 'MAXLEN', '=', ARGV[4])
-- Whole nodes first and not too many at once; exactly once few are left, so that no append takes long.
local oldest = string.format('%.0f-0', math.max(0, now - tonumber(ARGV[3])))
if redis.call('XTRIM', KEYS[1], 'MINID', '~', oldest, 'LIMIT', 1000) < 500 then
  redis.call('XTRIM', KEYS[1], 'MINID', '=', oldest)
end
-- Without another event all of them go by themselves.
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return { log, id }
