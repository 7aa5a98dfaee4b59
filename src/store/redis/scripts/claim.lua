-- Claims an ACS identity for a user, if nobody has it, or only the holder named in `expected`, or it is the user's own.
-- KEYS: owner. ARGV: user, bytes to expect (empty for none). A claim is: version 1, time in us as 8 bytes, user; the
-- time makes each claim different from every other. Returns {claimed 1 or 0, the claim that is there, its age in ms}.
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local there = redis.call('GET', KEYS[1])
local mine = there and string.byte(there, 1) == 1 and string.sub(there, 10) == ARGV[1]
if there and not mine and (there ~= ARGV[2] or ARGV[2] == '') then
  local age = -1
  if string.byte(there, 1) == 1 and #there > 9 then
    local high, low = struct.unpack('>I4I4', string.sub(there, 2, 9))
    age = math.floor(math.max(0, now - (high * 4294967296 + low)) / 1000)
  end
  return { 0, there, age }
end
local high = math.floor(now / 4294967296)
local claim = string.char(1) .. struct.pack('>I4I4', high, now - high * 4294967296) .. ARGV[1]
redis.call('SET', KEYS[1], claim)
return { 1, claim, 0 }
