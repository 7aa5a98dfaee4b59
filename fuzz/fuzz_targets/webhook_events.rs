//! Fuzzes `acs_broker::webhook::fuzzing::events`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| acs_broker::webhook::fuzzing::events(data));
