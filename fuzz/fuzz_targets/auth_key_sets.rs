//! Fuzzes `acs_broker::auth::fuzzing::key_sets`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| acs_broker::auth::fuzzing::key_sets(data));
