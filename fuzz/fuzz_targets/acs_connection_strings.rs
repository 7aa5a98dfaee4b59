//! Fuzzes `acs_broker::acs::fuzzing::connection_strings`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| acs_broker::acs::fuzzing::connection_strings(data));
