-- Raises the generation of a user's record by one, if it names the identity, and drops the user's tokens. One slot.
-- KEYS: record, list of tokens. ARGV: identity, the tokens' keys less their last part, the user.
-- Returns the eight bytes of the new generation; nil if there is no such record; 0 if it cannot be read.
local record = redis.call('GET', KEYS[1])
if not record then return false end
if string.byte(record, 1) ~= 1 or #record < 18 then return 0 end
if string.match(record, '^[^%z]+', 18) ~= ARGV[1] then return false end
-- Byte by byte: a Lua number holds only 53 bits. The highest generation stays what it is.
local generation = { string.byte(record, 2, 9) }
local at = 8
while at > 0 and generation[at] == 255 do at = at - 1 end
if at > 0 then
  generation[at] = generation[at] + 1
  for rest = at + 1, 8 do generation[rest] = 0 end
end
local bytes = string.char(unpack(generation))
redis.call('SET', KEYS[1], string.sub(record, 1, 1) .. bytes .. string.sub(record, 10))
local tokens = redis.call('GET', KEYS[2])
if tokens then
  for token in string.gmatch(string.sub(tokens, 2), '[^,]+') do
    redis.call('DEL', ARGV[2] .. token .. ':' .. ARGV[3])
  end
  redis.call('DEL', KEYS[2])
end
return bytes
