//! Fuzzes `acs_broker::store::fuzzing::replies`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| acs_broker::store::fuzzing::replies(data));
