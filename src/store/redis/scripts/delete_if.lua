-- Deletes a key if it holds exactly these bytes. KEYS: key. ARGV: bytes. Returns 1 if it did, else 0.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('DEL', KEYS[1])
