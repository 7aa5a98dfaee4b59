//! Fuzzes `acs_broker::auth::fuzzing::discovery`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| acs_broker::auth::fuzzing::discovery(data));
