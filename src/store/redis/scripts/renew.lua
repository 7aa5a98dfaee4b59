-- Extends a lease, if it is still this holder's. KEYS: lease. ARGV: holder, milliseconds. Returns 1 if it is, else 0.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])
