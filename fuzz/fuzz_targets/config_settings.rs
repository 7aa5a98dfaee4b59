//! Fuzzes `acs_broker::config::fuzzing::settings`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| acs_broker::config::fuzzing::settings(data));
