//! Fuzzes `acs_broker::store::fuzzing::key_files`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| acs_broker::store::fuzzing::key_files(data));
