-- Keeps a token, if the record still names the identity and generation it was issued for: the fence that makes
-- revocation final. One slot. KEYS: record, token, list of tokens.
-- ARGV: generation (eight bytes), identity, token, milliseconds to keep it, its place in the list.
-- Returns 1 if it was kept, else 0.
local record = redis.call('GET', KEYS[1])
if not record or string.byte(record, 1) ~= 1 then return 0 end
if string.sub(record, 2, 9) ~= ARGV[1] or string.match(record, '^[^%z]+', 18) ~= ARGV[2] then return 0 end
redis.call('SET', KEYS[2], ARGV[3], 'PX', ARGV[4])
-- The list lives as long as the longest-lived token on it.
local tokens = redis.call('GET', KEYS[3])
local keep = tonumber(ARGV[4])
if not tokens or string.byte(tokens, 1) ~= 49 then
  redis.call('SET', KEYS[3], '1' .. ARGV[5] .. ',', 'PX', ARGV[4])
else
  if not string.find(',' .. string.sub(tokens, 2), ',' .. ARGV[5] .. ',', 1, true) then
    redis.call('APPEND', KEYS[3], ARGV[5] .. ',')
  end
  if redis.call('PTTL', KEYS[3]) < keep then redis.call('PEXPIRE', KEYS[3], ARGV[4]) end
end
return 1
