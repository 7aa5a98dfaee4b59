//! Fuzzes `acs_broker::auth::fuzzing::tokens`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| acs_broker::auth::fuzzing::tokens(data));
