-- Removes a user's record, the user's place in the index and the user's tokens, if the record names the identity.
-- One slot. KEYS: record, index, list of tokens. ARGV: identity, the tokens' keys less their last part, the user.
-- Returns 1 if it did, 0 if there is no such record, -1 if it cannot be read.
local record = redis.call('GET', KEYS[1])
if not record then return 0 end
if string.byte(record, 1) ~= 1 or #record < 18 then return -1 end
if string.match(record, '^[^%z]+', 18) ~= ARGV[1] then return 0 end
redis.call('DEL', KEYS[1])
redis.call('ZREM', KEYS[2], ARGV[3])
local tokens = redis.call('GET', KEYS[3])
if tokens then
  for token in string.gmatch(string.sub(tokens, 2), '[^,]+') do
    redis.call('DEL', ARGV[2] .. token .. ':' .. ARGV[3])
  end
  redis.call('DEL', KEYS[3])
end
return 1
