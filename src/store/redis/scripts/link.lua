-- Keeps what ids of ACS belong to, instead of what was known of them. One slot. KEYS: one for each id.
-- ARGV: milliseconds to keep them, then the bytes for each key. Returns how many it kept.
for at = 1, #KEYS do redis.call('SET', KEYS[at], ARGV[at + 1], 'PX', ARGV[1]) end
return #KEYS
