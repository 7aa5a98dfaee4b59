-- The events after a place; `append.lua` explains ids and head. One slot. KEYS: stream, head.
-- ARGV: name of the log, ms and number of the place, how many at most.
-- Returns {0} if this is no place of this log, {1} if the next event is gone, else {2, id, event, id, event, ...}.
local log, ms, last = string.match(redis.call('GET', KEYS[2]) or '', '^(%x+):(%d+):(%d+)$')
local number = tonumber(ARGV[3])
if log ~= ARGV[1] or number > tonumber(last) then return { 0 } end
local place = ARGV[2] .. '-' .. ARGV[3]
local function numbered(entry) return tonumber(string.match(entry[1], '%-(%d+)$')) end
if number == 0 then
  if tonumber(ARGV[2]) ~= 0 then return { 0 } end
elseif number == tonumber(last) then
  if ARGV[2] ~= ms then return { 0 } end
  return { 2 }
elseif #redis.call('XRANGE', KEYS[1], place, place) == 0 then
  -- Gone, or never given out.
  local first = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', 1)[1]
  if first and numbered(first) <= number then return { 0 } end
end
local entries = redis.call('XRANGE', KEYS[1], '(' .. place, '+', 'COUNT', ARGV[4])
if not entries[1] then
  if number == tonumber(last) then return { 2 } end
  return { 1 }
end
if numbered(entries[1]) ~= number + 1 then return { 1 } end
local found = { 2 }
for _, entry in ipairs(entries) do
  table.insert(found, entry[1])
  table.insert(found, entry[2][2])
end
return found
