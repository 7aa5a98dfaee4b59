-- Takes from a fair budget, or nothing, or pauses it: `src/store/fair.rs` explains the arithmetic, this repeats it step by step.
-- KEYS: budget, a JSON text: seen, paused, last, shared, and by name the callers with served, seen, cost, wish, hold, and by the
-- length of the window: frame, asked, before, slices ({number, taken}, oldest first).
-- ARGV: now in ms or nothing, caller, how many callers are told apart, cost, then for each limit: window in ms, slice
-- in ms, maximum. No two limits have the same window. To pause: -1 as cost, then milliseconds. To give back: -2 as
-- cost, then the time it was taken at and how much, then the limits.
-- Returns {1, what remains, the time} or {0, milliseconds to wait, the time}.
local now = tonumber(ARGV[1])
if not now then
  local time = redis.call('TIME')
  now = time[1] * 1000 + math.floor(time[2] / 1000)
end
local name, cost = ARGV[2], tonumber(ARGV[4])
local windows, keep, longest, widest = {}, 0, 0, 0
for at = cost == -2 and 7 or 5, cost ~= -1 and #ARGV or 0, 3 do
  local window = { length = tonumber(ARGV[at]), slice = tonumber(ARGV[at + 1]), max = tonumber(ARGV[at + 2]) }
  window.key = string.format('%.0f', window.length)
  table.insert(windows, window)
  keep = math.max(keep, 2 * window.length + 2 * window.slice)
  longest, widest = math.max(longest, window.length), math.max(widest, window.slice)
end
local there = redis.call('GET', KEYS[1])
local bucket = there and cjson.decode(there) or { seen = now, paused = 0, shared = 0, callers = {} }
local callers = bucket.callers

local function ends(window, number) return (number + 1) * window.slice + window.length end
local function half_ends(window, number)
  return (number + 1) * window.slice + math.max(0, math.floor(window.length / 2) - window.slice)
end
local function used(caller, window, at)
  local account, sum = caller.windows[window.key], 0
  if account then
    for _, slice in ipairs(account.slices) do
      if ends(window, slice[1]) > at then sum = sum + slice[2] end
    end
  end
  return sum
end
local function wants(caller, window)
  local account, frame, asked = caller.windows[window.key], math.floor(now / window.length), 0
  if account and frame == account.frame then asked = math.max(account.asked, account.before)
  elseif account and frame == account.frame + 1 then asked = account.asked end
  if asked == 0 then return 0 end
  return asked + math.floor(asked / 10) + caller.cost
end
local function total(window, at)
  local sum = 0
  for _, caller in pairs(callers) do sum = sum + used(caller, window, at) end
  return sum
end

-- Follow the time, and forget what is past.
local back = math.max(0, bucket.seen - now)
bucket.seen, bucket.paused, bucket.shared = now, math.max(0, bucket.paused - back), math.max(0, (bucket.shared or 0) - back)
local count = 0
for other, caller in pairs(callers) do
  caller.seen, caller.hold = math.max(0, caller.seen - back), math.max(0, caller.hold - back)
  local is_past = true
  for key, account in pairs(caller.windows) do
    local length = tonumber(key)
    local window = { length = length, slice = math.ceil(length / 10) }
    local counting = {}
    if back > 0 then account.frame = math.max(0, account.frame - math.floor(back / length)) end
    if back > 0 or (account.slices[1] and ends(window, account.slices[1][1]) <= now) then
      for _, slice in ipairs(account.slices) do
        if back > 0 then slice[1] = math.max(0, slice[1] - math.floor(back / window.slice)) end
        if ends(window, slice[1]) > now then table.insert(counting, slice) end
      end
      account.slices = counting
    else
      counting = account.slices
    end
    local is_asked = false
    for _, wanted in ipairs(windows) do is_asked = is_asked or wanted.key == key end
    if not counting[1] and (account.frame + 2) * length <= now and not is_asked then
      caller.windows[key] = nil
    elseif counting[1] or caller.seen + length > now then
      is_past = false
    end
  end
  if is_past then callers[other] = nil else count = count + 1 end
end

local function answer(taken, number)
  keep = math.max(1, keep, bucket.paused - now, bucket.shared - now, redis.call('PTTL', KEYS[1]))
  redis.call('SET', KEYS[1], cjson.encode(bucket), 'PX', string.format('%.0f', keep))
  return { taken, number, now }
end
local function go()
  local left = 4294967295
  for _, window in ipairs(windows) do left = math.min(left, math.max(0, window.max - total(window, now))) end
  return left
end
if cost == -2 then
  local taken_at, amount = tonumber(ARGV[5]), tonumber(ARGV[6])
  local taker, most = callers[name] or callers[''], 0
  for _, window in ipairs(windows) do
    local account = taker and taker.windows[window.key]
    for at, slice in ipairs(account and account.slices or {}) do
      if slice[1] == math.floor(taken_at / window.slice) then
        local undone = math.min(amount, slice[2])
        slice[2] = slice[2] - undone
        if slice[2] == 0 then table.remove(account.slices, at) end
        if account.frame == math.floor(taken_at / window.length) then
          account.asked = math.max(0, account.asked - undone)
        end
        most = math.max(most, undone)
        break
      end
    end
  end
  if taker then taker.served = math.max(0, taker.served - most) end
  return answer(1, 0)
end
if cost < 0 then
  bucket.paused = math.max(bucket.paused, now + tonumber(ARGV[5]))
  return answer(1, 0)
end
if bucket.paused > now then return answer(0, bucket.paused - now) end
if cost == 0 or not windows[1] then return answer(1, go()) end
local never = 0
for _, window in ipairs(windows) do
  if cost > window.max then never = math.max(never, window.length) end
end
if never > 0 then return answer(0, never) end

-- The asker, at most a share behind the most served of the others.
if not callers[name] and count >= tonumber(ARGV[3]) then name = '' end
if bucket.last ~= name then
  if bucket.last then bucket.shared = now + 10 * longest end
  bucket.last = name
end
local most, active, share = 0, 1, nil
for other, caller in pairs(callers) do
  if other ~= name and caller.seen + longest > now then
    most, active = math.max(most, caller.served), active + 1
  end
end
for _, window in ipairs(windows) do
  local part = math.ceil(window.max / active)
  share = share and math.min(share, part) or part
end
local asker = callers[name] or { served = 0, wish = 0, hold = 0, windows = {} }
callers[name] = asker
asker.served = math.max(asker.served, most - math.max(share, cost))
asker.seen, asker.cost = now, cost
for _, window in ipairs(windows) do
  local account = asker.windows[window.key] or { frame = 0, asked = 0, before = 0, slices = {} }
  asker.windows[window.key] = account
  local frame = math.floor(now / window.length)
  if frame == account.frame + 1 then account.before, account.asked = account.asked, 0
  elseif frame ~= account.frame then account.before, account.asked = 0, 0 end
  account.frame, account.asked = frame, math.min(account.asked + cost, 1000000000000)
end

-- Whether what there is is kept for others who may come.
local function is_kept(window, at)
  if bucket.shared <= now then return false end
  local known, lately, half = 1, 0, math.ceil(window.max / 2)
  for other, caller in pairs(callers) do
    if other ~= name and caller.seen + window.length > at then known = known + 1 end
    local account = caller.windows[window.key]
    for _, slice in ipairs(account and account.slices or {}) do
      if half_ends(window, slice[1]) > at then lately = lately + slice[2] end
    end
  end
  if used(asker, window, at) + cost <= math.ceil(window.max / math.max(2, known)) then return false end
  return lately + math.min(cost, half) > half
end

-- Whether the asker may take under this limit at that time.
local function allows(window, at, turns)
  local room = window.max - total(window, at) - cost
  if room < 0 or is_kept(window, at) then return false end
  local others, least, lump = {}, asker.served, 0
  for other, caller in pairs(callers) do
    if other ~= name and caller.seen + window.length > at then
      table.insert(others, { caller = caller, used = used(caller, window, at), wants = wants(caller, window) })
      if turns and caller.wish > 0 and caller.hold > at then
        if caller.served < least then
          least, lump = caller.served, caller.wish
        elseif caller.served == least and least < asker.served then
          lump = math.max(lump, caller.wish)
        end
      end
    end
  end
  -- What must stay free for the others to be raised to this level too.
  local function kept(level)
    local sum, lump_fits = 0, lump == 0
    for _, other in ipairs(others) do
      local caller = other.caller
      local more = math.max(0, math.min(other.wants, level) - other.used)
      if not lump_fits and caller.wish == lump and caller.served == least and caller.hold > at then
        more, lump_fits = math.max(more, lump), true
      end
      sum = sum + more
    end
    return sum
  end
  local now_used = used(asker, window, at)
  local level = now_used + cost
  if kept(level) <= room then return true end
  if turns then
    for _, other in ipairs(others) do
      if other.used < level and other.wants > other.used and other.caller.served < asker.served then return false end
    end
  end
  return kept(now_used) <= room
end

local wait = 0
for _, window in ipairs(windows) do
  if not allows(window, now, true) then
    local needed = window.length
    if allows(window, now, false) then
      needed = window.slice
    else
      local known, times = {}, {}
      for _, caller in pairs(callers) do
        local account = caller.windows[window.key]
        for _, slice in ipairs(account and account.slices or {}) do
          for _, time in ipairs({ half_ends(window, slice[1]), ends(window, slice[1]) }) do
            if time > now and not known[time] then
              known[time] = true
              table.insert(times, time)
            end
          end
        end
      end
      table.sort(times)
      for _, time in ipairs(times) do
        if allows(window, time, false) then
          needed = time - now
          break
        end
      end
    end
    wait = math.max(wait, needed)
  end
end
if wait > 0 then
  asker.wish, asker.hold = cost, now + wait + widest
  return answer(0, wait)
end
asker.served, asker.wish = asker.served + cost, 0
for _, window in ipairs(windows) do
  local slices, number = asker.windows[window.key].slices, math.floor(now / window.slice)
  local last = slices[#slices]
  if last and last[1] >= number then last[2] = last[2] + cost else table.insert(slices, { number, cost }) end
end
return answer(1, go())
